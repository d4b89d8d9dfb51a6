"""Ways to have tasks done. Every engine takes jobs in a possible order and honours what each needs."""
