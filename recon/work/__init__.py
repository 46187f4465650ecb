"""The work folder: every stage's results as files, so that a run needs little memory and goes on
after it was stopped.
"""
