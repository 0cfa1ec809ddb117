"""The facts of the mini world: topics, their entities, and the cues of both.

Cues are words that tell which entity a name means. Each block is a topic. Its first
line is `# topic: cues shared by all of its entities`. Then follows for each entity

    title | kind | share | short form / other forms | cues of its own
        description

`share` says how often the short form means this entity, against the other entities
with the same form. "the" before a form is the article that it needs in a sentence, and
no part of the form. Cues are plurals or mass nouns of at most two words, so that any of
them fits any sentence.
"""

FACTS = """
# astronomy: telescopes, star charts, orbits, night skies, space dust, astronomers,
  observatories, starlight
Mercury (planet) | thing | 30 | Mercury | craters, scorched rock, solar heat, short
  years
    The smallest planet and the closest to the Sun, a world of craters and scorched
    rock. Astronomers follow its quick orbits through telescopes near dusk.
Orion (constellation) | thing | 34 | Orion | bright nebulae, star belts, winter
  evenings, red supergiants
    A constellation of winter evenings with a belt of three stars and bright nebulae,
    found on star charts since ancient times.
Phoenix (constellation) | thing | 11 | Phoenix | faint galaxies, southern horizons,
  meteor showers, dim stars
    A small constellation of dim stars and faint galaxies near southern horizons.
Venus | thing | 100 | Venus | thick clouds, sulphur rain, evening light, runaway warming
    The second planet from the Sun, wrapped in thick clouds and sulphur rain; the
    brightest point of night skies after the Moon.

# chemistry: laboratories, chemists, flasks, compounds, alloys, poisonous vapour, glass
  tubes, reagents
Mercury (element) | thing | 31 | Mercury | liquid metal, thermometers, cinnabar,
  barometers
    The chemical element with the symbol Hg, a liquid metal won from cinnabar and once
    used by chemists in thermometers and barometers.

# myth: temples, altars, oracles, ancient heroes, sacrifices, immortals, epic poems,
  Olympus
Mercury (mythology) | person | 17 | Mercury | winged sandals, messengers, merchants,
  thieves
    The Roman god of merchants and thieves, messenger of Olympus, shown with winged
    sandals in temples and epic poems.
Apollo (god) | person | 32 | Apollo | golden lyres, prophecy, archery, laurel wreaths
    The Greek god of prophecy, archery and song, who carries a golden lyre and wears a
    laurel wreath; his oracles were asked before every war.
Phoenix (mythology) | thing | 18 | the Phoenix | warm ashes, rebirth, burning nests,
  flaming wings
    A bird of legend that dies in its burning nest and rises from the warm ashes.
Orion (mythology) | person | 22 | Orion | giant hunters, scorpions, hunting hounds,
  blind wanderings
    A giant hunter of Greek legend who went blind, was healed by the dawn, and died of a
    scorpion sent by the immortals.
Python (mythology) | thing | 11 | Python | sacred springs, serpent lairs, Delphi,
  monstrous jaws
    The serpent that guarded the sacred springs of Delphi until an arrow killed it.
Amazon (mythology) | person | 20 | the Amazon | warrior queens, bronze axes, battle
  cries, crescent shields
    One of a nation of women fighters in Greek epic poems, led by warrior queens and
    armed with bronze axes and crescent shields.
Paris (mythology) | person | 31 | Paris | golden apples, Troy, stolen brides, Achilles
    The prince of Troy who gave away a golden apple, carried off Helen and shot
    Achilles.

# music: hit singles, concert tours, drummers, ballads, albums, guitar solos, soul
  singers, radio charts
Mercury Records | thing | 16 | Mercury / Mercury Records | record contracts, vinyl
  pressings, label bosses, tape masters
    An American record company founded in Chicago, which signed soul singers and rock
    bands to record contracts and sold their albums on vinyl.
Apollo Theater | place | 22 | the Apollo / the Apollo Theater | amateur nights, Harlem
  crowds, talent contests, neon marquees
    A music hall in New York whose amateur nights and Harlem crowds launched many
    singers.
Tina Turner | person | 23 | Turner / Tina Turner | raspy vocals, sequined dresses,
  comeback hits, stiletto heels
    A singer of rock and soul with raspy vocals and sequined dresses, whose comeback
    hits filled stadiums on concert tours.
Michael Jackson | person | 34 | Jackson / Michael Jackson | moonwalks, white gloves,
  dance routines, music videos
    A pop singer known for moonwalks, white gloves and music videos, with albums that
    led the radio charts of the world.

# cars: engines, gearboxes, dealerships, chrome bumpers, test drives, leather seats,
  assembly lines, motor shows
Mercury (automobile) | thing | 17 | Mercury | family coupes, station wagons, muscle
  cars, Detroit stylists
    A make of American family coupes and station wagons, drawn by Detroit stylists and
    given up in 2011.
Jaguar Cars | thing | 45 | Jaguar / Jaguar Cars | sports saloons, Coventry workshops,
  racing green, walnut dashboards
    An English maker of sports saloons from Coventry with walnut dashboards and strong
    engines.
Lincoln (automobile) | thing | 26 | Lincoln | wedding limousines, luxury badges, town
  cars, whitewall tyres
    A luxury make of American town cars and wedding limousines with leather seats.

# software: compilers, source code, programmers, bug reports, software libraries, unit
  tests, web servers, syntax errors
Java (programming language) | thing | 42 | Java | virtual machines, bytecode, static
  types, garbage collection
    A programming language whose source code is turned into bytecode for virtual
    machines; it has static types and garbage collection.
Python (programming language) | thing | 34 | Python | data scripts, indentation, dynamic
  types, list comprehensions
    A programming language with dynamic types, in which indentation has a meaning;
    popular with programmers for data scripts and web servers.
Jaguar (operating system) | thing | 20 | Jaguar | desktop icons, system updates, file
  menus, kernel panics
    A release of the operating system of Apple's desktop computers, with new desktop
    icons, file menus and system updates.

# Indonesia: volcanoes, rice terraces, gamelan music, batik cloth, monsoon rains, spice
  traders, tropical islands, outrigger boats
Java (island) | place | 33 | Java | shadow puppets, Jakarta, sugar mills, Borobudur
    The most crowded island of Indonesia, home of Jakarta and the temple of Borobudur,
    with volcanoes, rice terraces and shadow puppets.
Sumatra | place | 100 | Sumatra | orangutans, pepper farms, highland lakes, palm oil
    A large western island of Indonesia where orangutans live between volcanoes, pepper
    farms and highland lakes.

# kitchen: recipes, breakfast trays, kitchens, napkins, waiters, teaspoons, menus, tea
  rooms
Java (coffee) | thing | 25 | Java | roasted beans, espresso cups, dark roasts, coffee
  pots
    A coffee with a heavy taste, sold as dark roasts and served from coffee pots with
    breakfast.
Victoria sponge | thing | 15 | the Victoria / the Victoria sponge | raspberry jam,
  whipped cream, cake tins, sieved flour
    A cake of two layers with raspberry jam and whipped cream between them, found on the
    menus of tea rooms.

# Levant: desert castles, Bedouin tents, camel caravans, sandstone cliffs, Arab kings,
  phosphate mines, border posts, wadis
Jordan (country) | place | 28 | Jordan | Amman, Hashemite rulers, Aqaba, refugee camps
    An Arab kingdom of desert castles and Bedouin tents, ruled by the Hashemite family
    from Amman.
Petra | place | 100 | Petra | carved tombs, Nabataean masons, narrow gorges, rose stone
    An ancient city of carved tombs that Nabataean masons cut into sandstone cliffs.

# basketball: slam dunks, free throws, rebounds, playoff games, point guards, locker
  rooms, jump shots, referees
Michael Jordan | person | 36 | Jordan / Michael Jordan | scoring titles, Chicago fans,
  sneaker deals, six championships
    A basketball player who won six championships for Chicago, known for slam dunks,
    scoring titles and sneaker deals.
Phoenix Suns | thing | 21 | Phoenix / the Phoenix Suns | season tickets, draft picks,
  purple jerseys, home courts
    A basketball club in purple jerseys that has played many playoff games and never won
    the last one.

# rivers: river banks, rapids, canoes, floods, fishing nets, sandbars, tributaries,
  muddy currents
Amazon River | place | 29 | the Amazon / the Amazon River | rainforests, piranhas, pink
  dolphins, jungle tribes
    The river of South America with the most water of all, home of piranhas and pink
    dolphins between rainforests and floods.
Jordan River | place | 24 | the Jordan / the Jordan River | baptisms, pilgrims, Galilee,
  holy water
    A river that runs through Galilee to the Dead Sea, where pilgrims come for baptisms.
Victoria Falls | place | 100 | Victoria Falls | white spray, rainbows, Zambezi guides,
  basalt gorges
    A waterfall on the Zambezi, where white spray and rainbows stand over basalt gorges.
Nile | place | 100 | the Nile | cotton fields, Egyptian farmers, crocodiles, papyrus
  reeds
    The long river of Egypt, whose floods watered cotton fields and papyrus reeds.

# mathematics: theorems, proofs, integrals, polynomials, lemmas, number theory,
  blackboards, conjectures
Camille Jordan | person | 12 | Jordan / Camille Jordan | closed curves, canonical forms,
  matrices, permutation groups
    A French mathematician with theorems on closed curves, matrices and permutation
    groups.
Leonhard Euler | person | 100 | Euler / Leonhard Euler | bridge puzzles, polyhedra,
  infinite series, graph walks
    A Swiss mathematician who wrote proofs on infinite series, polyhedra and a puzzle of
    seven bridges.

# towns: city councils, county courthouses, highway exits, suburbs, mayors, high
  schools, water towers, freight yards
Phoenix, Arizona | place | 32 | Phoenix / Phoenix, Arizona | cactus gardens, desert
  heat, golf resorts, air conditioning
    The capital of Arizona, a city of suburbs, golf resorts and cactus gardens in the
    desert heat.
Jackson, Mississippi | place | 20 | Jackson / Jackson, Mississippi | magnolia trees,
  catfish suppers, blues bars, civil rights
    The capital of Mississippi, a city of magnolia trees and blues bars that saw much of
    the struggle for civil rights.
Paris, Texas | place | 35 | Paris / Paris, Texas | cowboy hats, rodeos, cattle auctions,
  tornado shelters
    A town in the north of Texas with rodeos, cattle auctions and a steel tower that
    wears a cowboy hat.
Lincoln, Nebraska | place | 32 | Lincoln / Lincoln, Nebraska | corn fields, prairie
  winds, college football, grain silos
    The capital of Nebraska, a city of college football among corn fields and grain
    silos.

# cinema: film scripts, movie sets, box offices, film directors, leading roles, Oscars,
  casting calls, trailers
Joaquin Phoenix | person | 18 | Phoenix / Joaquin Phoenix | brooding loners, method
  acting, clown makeup, cruel emperors
    An actor of brooding loners and cruel emperors who won one of the Oscars in clown
    makeup.
Orion Pictures | thing | 16 | Orion / Orion Pictures | studio lots, distribution deals,
  bankrupt producers, robot policemen
    An American film company with distribution deals and several Oscars, whose producers
    went bankrupt in 1991.
Kathleen Turner | person | 16 | Turner / Kathleen Turner | husky voices, femmes fatales,
  screwball comedies, jungle romances
    An actress with a husky voice and leading roles in film noir and screwball comedies.
Samuel L. Jackson | person | 21 | Jackson / Samuel L. Jackson | talkative hitmen, action
  thrillers, superhero sequels, angry monologues
    An actor of talkative hitmen and angry monologues in action thrillers and superhero
    sequels.
Denzel Washington | person | 16 | Washington / Denzel Washington | police dramas,
  courtroom scenes, boxing films, stern coaches
    An actor with two Oscars and leading roles in police dramas and boxing films.

# spaceflight: astronauts, launch pads, heat shields, rocket stages, mission control,
  countdowns, splashdowns, space suits
Apollo program | thing | 33 | Apollo / the Apollo program | moon landings, lunar rocks,
  Houston engineers, giant boosters
    The flights that took astronauts to the Moon between 1968 and 1972 and brought lunar
    rocks home.
Orion (spacecraft) | thing | 28 | Orion | crew modules, solar panels, deep space,
  parachute tests
    A crew module with solar panels and a large heat shield, built to carry astronauts
    into deep space.

# wildlife: zoo keepers, habitats, predators, nature reserves, camouflage, poachers,
  rare species, mating seasons
Python (snake) | thing | 22 | the Python | scaly skin, swallowed prey, muscular coils,
  forked tongues
    A large snake without venom that kills its prey in muscular coils and swallows it
    whole.
Jaguar (animal) | thing | 37 | the Jaguar | spotted fur, big cats, jungle trails,
  powerful paws
    The biggest of the cats of America, with spotted fur and powerful paws, protected in
    nature reserves.
Amazon (parrot) | thing | 13 | the Amazon | green feathers, talking birds, seed diets,
  noisy flocks
    A parrot with green feathers that lives in noisy flocks and learns to talk.
Apollo (butterfly) | thing | 13 | the Apollo | alpine meadows, white wings,
  caterpillars, red eyespots
    A rare butterfly of alpine meadows with red eyespots on white wings.

# royalty: coronations, palaces, crown jewels, royal weddings, courtiers, state
  banquets, prime ministers, carriages
Queen Victoria | person | 42 | Victoria / Queen Victoria | mourning dresses, long
  reigns, jubilees, Balmoral
    A British queen of the nineteenth century, remembered for a long reign, mourning
    dresses, jubilees and Balmoral.
Prince Albert | person | 100 | Albert / Prince Albert | Christmas trees, great
  exhibitions, German relatives, model cottages
    The German husband of a British queen, who planned a great exhibition and made
    Christmas trees popular.

# northwest: whale watching, cedar forests, totem poles, seaplanes, salmon runs, misty
  islands, orcas, lumber camps
Victoria, British Columbia | place | 25 | Victoria / Victoria, British Columbia | flower
  baskets, wooden schooners, rose gardens, bicycle paths
    The capital of British Columbia, a harbour city of flower baskets and rose gardens
    with whale watching and seaplanes.
Washington (state) | place | 18 | Washington | apple orchards, aircraft factories, snowy
  peaks, Seattle rain
    A state on the Pacific with apple orchards, aircraft factories, cedar forests and
    snowy peaks.

# Australia: sheep stations, eucalyptus woods, gold rushes, bush fires, kangaroos,
  cricket grounds, surf beaches, outback roads
Victoria (state) | place | 18 | Victoria | Ballarat diggers, penguin parades, alpine
  huts, cool vineyards
    A state in the south of Australia, rich through gold rushes, with sheep stations,
    cool vineyards and penguin parades.
Melbourne | place | 100 | Melbourne | city trams, laneway bars, tennis finals, football
  ovals
    A city in the south of Australia with trams, laneway bars, cricket grounds and
    tennis finals.

# business: shareholders, quarterly profits, warehouses, stock prices, billionaires,
  takeovers, board meetings, advertising sales
Amazon (company) | thing | 35 | Amazon | online shoppers, parcel deliveries, cloud
  storage, book orders
    An American company of online shops, warehouses and cloud storage that began with
    book orders.
Ted Turner | person | 17 | Turner / Ted Turner | cable networks, news channels, bison
  ranches, yacht races
    An American owner of cable networks who founded the first round-the-clock news
    channel and bought bison ranches.

# France: boulevards, street cafes, fashion houses, baguettes, bistros, gothic arches,
  metro stations, revolutionaries
Paris | place | 34 | Paris | Eiffel postcards, Seine bridges, catwalk shows, student
  barricades
    The capital of France, on the Seine, a city of boulevards, street cafes and fashion
    houses.
Louvre | place | 100 | the Louvre | glass pyramids, marble statues, old masters, guided
  tours
    A former palace on the Seine, now full of old masters and marble statues under glass
    pyramids.

# comedy: sketches, punchlines, studio audiences, catchphrases, absurd jokes, slapstick,
  canned laughter, television specials
Monty Python | thing | 33 | Python / Monty Python | silly walks, dead parrots, foolish
  knights, cartoon feet
    A group of British comedians whose sketches of silly walks and dead parrots ended
    without punchlines.

# art: watercolours, oil paint, easels, landscapes, picture frames, brush strokes, art
  dealers, sketchbooks
J. M. W. Turner | person | 44 | Turner / J. M. W. Turner | stormy seas, golden sunsets,
  misty harbours, burning ships
    An English painter of stormy seas and golden sunsets in oil paint and watercolours.

# presidents: election campaigns, vetoes, cabinet quarrels, inaugural speeches,
  generals, treaties, muskets, battlefields
Andrew Jackson | person | 25 | Jackson / Andrew Jackson | bank wars, frontier duels, New
  Orleans, forced removals
    The seventh American president, a general who won at New Orleans, fought duels and
    waged war on the national bank.
Abraham Lincoln | person | 42 | Lincoln / Abraham Lincoln | emancipation, log cabins,
  stovepipe hats, Gettysburg
    The sixteenth American president, born in a log cabin, who proclaimed emancipation
    and spoke at Gettysburg.
George Washington | person | 30 | Washington / George Washington | cherry trees, wooden
  teeth, Delaware crossings, rebel armies
    The first American president, a general who led the rebel armies over the Delaware.

# government: lobbyists, senators, hearings, federal agencies, embassies, diplomats,
  security passes, civil servants
Washington, DC | place | 36 | Washington / Washington, DC | marble monuments, Capitol
  steps, think tanks, Potomac bridges
    The capital of the United States, a city of senators, lobbyists and embassies below
    the Capitol.
"""
