"""One fast training loop, batched augmentation. Data stay resident as 8-bit pictures; nothing seeds globally."""

VERSION = 1
