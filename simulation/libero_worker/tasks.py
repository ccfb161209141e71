"""The tasks that the script knows: one object picked up and put on or in something."""

_BOWLS = {
    0: "between_the_plate_and_the_ramekin",
    1: "next_to_the_ramekin",
    2: "from_table_center",
    3: "on_the_cookie_box",
    5: "on_the_ramekin",
    6: "next_to_the_cookie_box",
    7: "on_the_stove",
    8: "next_to_the_plate",
    9: "on_the_wooden_cabinet",
}
_GROCERIES = (
    "alphabet_soup",
    "cream_cheese",
    "salad_dressing",
    "bbq_sauce",
    "ketchup",
    "tomato_sauce",
    "butter",
    "milk",
    "chocolate_pudding",
    "orange_juice",
)

# Names by suite and number, in LIBERO's default order. Left out: the bowl in the drawer (the hand
# does not fit), drawers, knobs and pushing; libero_10 and libero_90 were not tried.
KNOWN_TASKS: dict[str, dict[int, str]] = {
    "libero_spatial": {
        number: f"pick_up_the_black_bowl_{where}_and_place_it_on_the_plate"
        for number, where in _BOWLS.items()
    },
    "libero_object": {
        number: f"pick_up_the_{thing}_and_place_it_in_the_basket"
        for number, thing in enumerate(_GROCERIES)
    },
    "libero_goal": {
        1: "put_the_bowl_on_the_stove",
        2: "put_the_wine_bottle_on_top_of_the_cabinet",
        4: "put_the_bowl_on_top_of_the_cabinet",
        6: "put_the_cream_cheese_in_the_bowl",
        8: "put_the_bowl_on_the_plate",
    },
}
