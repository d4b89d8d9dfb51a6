"""The rules of the game: configuration, grid, cells, store, engines and verdict. Knows no arena, needs no torch."""
