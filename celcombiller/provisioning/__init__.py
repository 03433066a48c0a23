"""The radio networks: what each knows of a subscriber, brought in step with the biller and kept there."""
