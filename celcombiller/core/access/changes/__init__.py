"""What an operator or a program may change, checked against who they are and written to the trail."""
