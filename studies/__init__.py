"""The evidence that two cores can give: does pre-training help on phantoms, and what of it?"""
