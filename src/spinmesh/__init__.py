"""spinmesh: tissue geometry to diffusion-MRI signal, back, and on to synthetic images."""
