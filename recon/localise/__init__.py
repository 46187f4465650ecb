"""New photos in the frame of a scene that is solved: localised, or added to it.

``python -m recon.localise SCENE PHOTO...`` finds where photos were taken and leaves the scene as it
is (:mod:`recon.localise.localise`); ``run_recon.py PHOTO... --extend SCENE`` solves a larger scene
around its cameras (:mod:`recon.localise.extension`).
"""
