"""Control: who may command, the limit's life, the plan that keeps to it, and the receipts that prove it."""
