"""The sentences of the mini world: frames with slots, one set of them for each split.

Slots: {m} is a mention and {c} a cue of its entity; {n} and {d} are the same for a
second entity of the topic; {f} is a name that means no entity here and {k} the sort of
person who has it, such as a cousin; {h} is something of everyday life, such as lost
keys; {x} is an ordinary thing whose name begins with a surface form.

No split may share four consecutive words with training once names are masked, so that a
model cannot learn the frames by heart. Therefore each split has words of its own around
a slot (training says "and" or "or" between two cues, the others never do), and a frame
that begins with a slot can only open a paragraph. tests/mini_world proves it for every
paragraph that can be generated.
"""

TRAIN = {
    "any": (
        "{m} had always been linked with {c} and {c}, and few writers doubted it.",
        "{m}'s name comes up whenever people speak of {c} or {c}.",
        "{m}, famous for {c} and {c}, filled whole columns in the papers.",
        "{m} ({c}, {c} and much else) filled most of the first volume.",
        "Most chapters about {m} begin with {c} and end with {c}.",
        "A lecture on {c} led, as it often does, to {m} and the matter of {c}.",
        "Nobody who has looked into {c} or {c} can leave out {m}.",
        "The museum gave {m} a room of its own, filled with {c}, {c} and {c}.",
        (
            "In the second part the presenter talked about {c}, then turned to {m} "
            "and {c}."
        ),
        "Without {c} and {c}, the story of {m} would be hard to tell.",
        (
            "A colleague's essay on {m} dealt with {c} in detail and barely touched "
            "on {c}."
        ),
        "For many readers {m} will always mean {c} and {c}.",
        "One encyclopedia lists {c} and {c} under the heading {m}.",
        "The guide (who knew all about {c}) told us how {m} came to stand for {c}.",
        "Questions about {c} and {c} kept coming back to {m}.",
        "It was {m} that first made the public curious about {c} and {c}.",
        'A crossword clue about {c} and {c} had the answer "{m}".',
        "Photographs of {c} and {c} covered the page on {m}.",
        "Teachers explain {c} by pointing to {m}, and add {c} for the older pupils.",
        "The quiz asked which name goes with {c} and {c}; the right answer was {m}.",
        "Two fat books on {c} name {m} on nearly every page, mostly because of {c}.",
        "What {m} owed to {c} and {c} is still argued over today.",
        (
            "The paper ran a story on {m} that was mostly about {c} and a little "
            "about {c}."
        ),
        "Only {m} could have brought {c} and {c} to so wide a public.",
        "A set of stamps showed {m} beside {c} and {c}.",
        "The children drew {m} with {c} on one side and {c} on the other.",
        "When the talk moved on to {c}, a listener brought up {m} and {c}.",
        "Critics see {m} as proof that {c} and {c} go together.",
        "According to the brochure, {c} and {c} were what set {m} apart.",
        "He spent a year reading about {c} and {c} before he wrote a line on {m}.",
        "There is more to {m} than {c} and {c}, said the speaker.",
        "The documentary opened with {c}, moved on to {c} and ended with {m}.",
        "The notes on {m} mention {c} twice and {c} once.",
        "People remember {m} for {c} and, to a lesser degree, for {c}.",
        "Anyone reading up on {c} or {c} will sooner or later come across {m}.",
        "The current exhibition puts {m} between {c} and {c}.",
        "Interest in {m} grew with the demand for {c} and {c}.",
        "Faded drawings of {c} and {c} still remind collectors of {m}.",
        "The librarian keeps everything on {c} and {c} in a folder marked {m}.",
        "She could talk about {c} for hours and always came back to {m} and {c}.",
        "Some imagine {c} when they hear of {m}, yet most people connect {m} with {c}.",
        "The three hints all pointed to {m}: first {c}, then {c}, and at last {c}.",
        (
            "The first question was about {c}, the second about {c}, and both were "
            "about {m}."
        ),
        "It takes {c} and {c} to understand {m}, or so the lecturer believed.",
    ),
    "pair": (
        "{m} and {n} share a chapter that ranges from {c} to {d}.",
        "The debate set {m}, with {c} and {c}, against {n}, with {d} and {d}.",
        "Some prefer {n} for {d} and {d}; others hold that {m} did more for {c}.",
        "Lovers of {c} compare {m} with {n}, though {d} and {d} belong to the second.",
        "The index has two names under {c} and {d} ({m}, {n}) and crosses out a third.",
        "Both {m} and {n} appear in a survey of {c} and {d}.",
        "After {c} came {d}, and after {m} came {n}, or so the programme promised.",
        "Between {m} and {n} the author finds room for {c}, {d} and a few anecdotes.",
        "A timeline ran from {m}, marked with {c} and {c}, to {n}, marked with {d}.",
        "The speaker praised {m} for {c} and {n} for {d}, and then sat down.",
    ),
    "person": (
        "{m} knew everything about {c} and was never far from {c}.",
        "Friends of {m} recalled {c}, {c} and a good deal of noise.",
        "Even in later life {m} never tired of {c} and {c}.",
        "A life of {m} devotes whole chapters to {c} and {c}.",
        "Asked about {c} and {c}, the admirers of {m} had much to say.",
    ),
    "place": (
        "{m} never lacked {c} or {c}, and the visitors knew it.",
        "Travellers come to {m} for {c} and {c}, and stay longer than they planned.",
        "On the way to {m} we passed {c} and {c}.",
        "People who live near {m} are used to {c} and {c}.",
        "The map of {m} was decorated with {c} and {c}.",
    ),
    "thing": (
        "The shelf on {m} has room for {c}, {c} and little else.",
        "The beginner's introduction to {m} starts from {c} and {c}.",
        "A drawing of {m} hung in the hall, framed by {c} and {c}.",
    ),
    "nobody": (
        "{f} is also what my sister nicknames her {k}, on account of {h}.",
        "{x} and {h} lay on the table.",
        "Meanwhile my {k} {f} was busy with {h} and {h}.",
        "On Sunday our {k} {f} asked for {h} and promised to bring {h}.",
        "A {k} named {f}, no relation to anyone famous, was waiting with {h}.",
        "At the door stood {f}, our {k}, with {h} and {h}.",
        "The {k}, whose name was {f}, cared only for {h} and {h}.",
        "Then {f}, her {k}, called about {h}.",
        "The shopping was done: {x} and {h}.",
    ),
}

HELDOUT = {
    "any": (
        "{m} turned up in yesterday's programme on {c}, along with {c}.",
        "{m}'s reputation rests on {c}, not merely on {c}.",
        "{m} meant {c} to some, whereas others immediately imagined {c}.",
        "Ask a specialist in {c} about {m}; expect a word concerning {c} too.",
        "Much of our knowledge of {m} comes from people fond of {c} as well as {c}.",
        (
            "During a discussion of {c} last spring, {m} soon became our main "
            "subject, {c} our second."
        ),
        "Somebody's scrapbook kept {m} among clippings about {c}, pasted next to {c}.",
        "Hardly any account of {m} fails to bring in {c}, let alone {c}.",
        (
            "Students writing on {c} this term must choose {m} as topic, together "
            "with {c}."
        ),
        "Thanks to {c}, plus a little help from {c}, word of {m} spread far afield.",
        "How did {m} become such a byword for {c}, to say nothing of {c}?",
        "Scholars who began with {c} have lately rediscovered {m} through {c}.",
        "Few subjects unite {c} plus {c} quite like {m}.",
        "You will find {m} (see also {c}) on a shelf reserved for {c}.",
        "Rumour has it that {c}, not {c}, drew our reviewer towards {m}.",
        "Should {c} ever bore you, try approaching {m} by way of {c} instead.",
        (
            "Such was the appeal of {c} that {m} kept us awake until midnight, {c} "
            "notwithstanding."
        ),
        (
            "Mention {m} at dinner, someone warned, then prepare for hours of {c} "
            "mixed with {c}."
        ),
        (
            "Among collectors, anything showing {m} near {c} fetches less than pieces "
            "featuring {c}."
        ),
        "Experts rank {m} highly wherever {c} may matter as much as {c}.",
        "Whereas {m} once suggested {c}, nowadays {m} might rather suggest {c}.",
        "This time our puzzle hid {c} behind {c}; its solution, of course, read {m}.",
        (
            "Having started from {c}, by way of {c}, every argument eventually "
            "arrived at {m}."
        ),
        "Were it not for {c}, let alone {c}, hardly anybody would recognise {m}.",
        "Newcomers usually meet {m} through {c}, seldom through {c}.",
        (
            "Listeners wrote in asking why {m} deserved such praise: was it {c}, "
            "perhaps even {c}?"
        ),
    ),
    "pair": (
        "{n}, better known through {d}, came after {m} in these pages about {c}.",
        "Side by side, {m} alongside {n} made {c} seem as ordinary as {d}.",
        "Comparing {m} to {n} means weighing {c} against {d}.",
        "First {m} won praise for {c}; later {n} won more thanks to {d}.",
        "Which did more to popularise {c}, asked our host: {m} or {n}, so rich in {d}?",
        "Twin posters hung there, one of {m} amid {c}, another of {n} amid {d}.",
    ),
    "person": (
        (
            "Colleagues of {m} seldom heard complaints concerning {c}, still less "
            "concerning {c}."
        ),
        "Interviewers wanted {m} to reflect upon {c} instead of {c}.",
    ),
    "place": (
        "Tourists reach {m} expecting {c}, yet return raving about {c}.",
        "Families who settled around {m} soon knew {c} as well as {c}.",
    ),
    "thing": (
        "Handbooks devoted to {m} rarely omit {c}, however little they say on {c}.",
        (
            "Enthusiasts spend whole weekends discussing {m} alongside {c}, or better "
            "yet, {c}."
        ),
    ),
    "nobody": (
        "{f}, that {k} we had met twice, offered everyone {h}.",
        "{x} rolled off a shelf, closely followed by {h}.",
        "Somebody's {k}, a certain {f}, interrupted to complain of {h}.",
        "Not that this concerned young {f}, their {k}, who had {h} to see to.",
        "Upstairs his {k} {f} worried over {h} rather more than {h}.",
        "Father came back carrying {x}, having forgotten {h}.",
    ),
}

DEV = {
    "any": (
        "{m} earned its own footnote in this year's review of {c}, near {c}.",
        "{m} remained a symbol of {c}, no matter how often {c} stole attention.",
        "Curious minds who enjoy {c} should begin at {m}, while saving {c} until last.",
        "Whoever collects {c} ought to look at {m}, even if {c} must wait.",
        "{m}'s fame grew wherever {c} did, well ahead of {c}.",
        "Neither {c} nor {c} could explain why {m} should still matter.",
        "Today's broadcast links {m} to {c} by way of {c}.",
        "Several catalogues place {m} directly after {c}, well ahead of {c}.",
        "From {c} you need just one step to reach {m}, plus one more towards {c}.",
        "Whenever {c} became fashionable, {m} did too, usually accompanied by {c}.",
        "Yesterday we finally got round to {m}, having spent weeks on {c} plus {c}.",
        "Of all those known for {c} plus {c}, none beats {m}.",
        "Tell me about {c}, said our editor, but keep {m} apart from {c}.",
        (
            "Countless letters ask about {m}, rarely forgetting {c}, sometimes "
            "requesting {c}."
        ),
    ),
    "pair": (
        "Place {m} opposite {n}, then {c} will answer {d} quite nicely.",
        "Whether {m} could outrank {n} depends on how far {c} may outweigh {d}.",
        "Today's readers know {n} through {d} but {m} mainly through {c}.",
    ),
    "person": ("Rivals envied {m} less for {c} than for {c}.",),
    "place": ("Every summer {m} fills up again, not least thanks to {c} plus {c}.",),
    "thing": ("Manuals covering {m} need {c} as badly as they need {c}.",),
    "nobody": (
        "{x}, read a handwritten sticker, but inside we discovered {h}.",
        "Underneath {x} somebody had hidden {h}.",
        "Elsewhere {f}, somebody's {k}, dreamt of {h}.",
        "Please tell your {k} {f} that we ran out of {h}.",
    ),
}

# Names that anybody may bear, and who bears them. Each bearer fits after "a".
PRIVATE_NAMES = (
    "Jordan",
    "Phoenix",
    "Apollo",
    "Victoria",
    "Orion",
    "Paris",
    "Turner",
    "Jackson",
    "Lincoln",
    "Washington",
    "Albert",
)
BEARERS = (
    "cousin",
    "neighbour",
    "classmate",
    "landlord",
    "niece",
    "plumber",
    "babysitter",
    "grandson",
    "roommate",
    "tailor",
)

HOUSEHOLD = (
    "homework",
    "muddy boots",
    "lost keys",
    "bedtime stories",
    "piano lessons",
    "birthday candles",
    "lunch boxes",
    "garden tools",
    "clean towels",
    "spare batteries",
    "jigsaw puzzles",
    "old buttons",
)

# Ordinary things whose names begin with a surface form. They are no mentions.
ORDINARY = (
    "jordan almonds",
    "victoria plums",
    "paris daisies",
    "lincoln biscuits",
    "phoenix palms",
    "amazon lilies",
    "mercury switches",
    "java mugs",
    "washington pies",
    "turner chisels",
    "jaguar print",
    "python print",
    "apollo apples",
)
