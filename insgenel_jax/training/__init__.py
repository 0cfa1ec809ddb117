"""Training: settings in; the trained model directory of one of two tasks out.

run.py puts one experiment together. config.py checks its settings, data/ reads its
examples, generator.py and retriever.py say what each task minimises and how it is
measured, and loop.py trains: state.py is what a step changes, checkpoint.py what is
saved of it.
"""
