"""Random scenes with everything known, which the depth network learns from.

Takes are a pure function of the set's seed and their number. What the accuracy board measures on is
never drawn here: `HELD_OUT_THINGS` and the arenas that they stand in, and twins of other seeds.
"""

# Of LIBERO, all that appears in libero_spatial, libero_goal and libero_object, whose arenas (a bare
# table and a bare floor) no suite here has; new_salad_dressing is salad_dressing to look at.
HELD_OUT_THINGS = (
    "akita_black_bowl",
    "alphabet_soup",
    "basket",
    "bbq_sauce",
    "butter",
    "chocolate_pudding",
    "cookies",
    "cream_cheese",
    "flat_stove",
    "glazed_rim_porcelain_ramekin",
    "ketchup",
    "milk",
    "new_salad_dressing",
    "orange_juice",
    "plate",
    "salad_dressing",
    "tomato_sauce",
    "wine_bottle",
    "wine_rack",
    "wooden_cabinet",
)
# Twins of lower seeds are what tests, benchmarks and the board look at.
FIRST_SEED = 5000
