"""What every picture goes through.

Pictures are float32 RGB in [0, 1], NCHW, at every boundary; radii share the unit. What is stored is 8-bit.
"""

VERSION = 1
