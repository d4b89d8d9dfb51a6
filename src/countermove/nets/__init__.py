"""Networks: small ones of our own, the usual ones for 32 x 32 pictures, and pre-trained ones from elsewhere."""

VERSION = 1
