"""Makes `tickets.txt`: 300,000 messages that customers of a shop wrote, 27 MB, the same every time.

    agentkernel run --workspace examples/rlm examples/rlm/make_tickets.py

A few of them want their money back, and as many speak of a refund without wanting one: a search for
the word finds both, and only who reads them knows.
"""

import random

CITIES = {"Berlin": 30, "Lisbon": 12, "London": 36, "Madrid": 21, "Rome": 18, "Vienna": 15}
PRODUCTS = ("notebook", "pen", "desk lamp", "office chair", "backpack", "bookshelf", "kettle")
USUAL = (
    "Where is my {product}? It was to come on {day}, and nobody answers.",
    "The {product} is just as it was described, and it was here within two days.",
    "Can I still change the colour of the {product} that I ordered on {day}?",
    "One leg of the {product} is loose. Is there a spare part, or must I send it back?",
    "Please send the invoice for the {product} once more, to the address of my company.",
    "The {product} came in a box twice its size. Could you use less cardboard?",
    "I was not at home on {day}. Would the courier come again with the {product}?",
    "Do you have the {product} in oak as well, or only in beech?",
)
WANTED = (
    "The {product} broke on the first day. I want a refund.",
    "I have waited for the {product} since {day} and do not need it any more: refund me, please.",
    "This is the third {product} with a scratch. No new one, please, just the refund.",
)
NOT_WANTED = (
    "The refund for the {product} arrived on {day}, thank you for the quick help.",
    "No refund needed: the {product} turned up at my neighbour's on {day}.",
    "Is there a refund if the {product} does not fit, or should I measure first? I have not ordered yet.",
)

chance = random.Random(2025)
cities, weights = list(CITIES), list(CITIES.values())
with open("tickets.txt", "w") as file:
    for number in range(1, 300_001):
        luck = chance.random()
        texts = WANTED if luck < 0.0006 else NOT_WANTED if luck < 0.0012 else USUAL
        # Complaints come from Madrid more often than its customers are many.
        city = chance.choices(cities, weights)[0] if luck >= 0.0003 else "Madrid"
        text = chance.choice(texts).format(
            product=chance.choice(PRODUCTS), day=f"{chance.randint(1, 28)} {chance.choice(('May', 'June', 'July'))}"
        )
        file.write(f"#{number:06} {city}: {text}\n")
