"""What people read: tables for a terminal, and one self-contained page. Derived from a run folder; needs no torch."""
