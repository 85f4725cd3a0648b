"""English the tiny critic's tokenizer holds as whole words: manipulation tasks of robosuite, LIBERO and household sets.

Anything else still tokenizes, in pieces down to single bytes; a word listed here costs one token.
"""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


VERBS = _words("""
lift raise pick grasp grab hold take place put set lay drop release push pull slide move drag bring carry stack unstack
open close shut turn rotate twist flip switch press insert remove hang wipe clean pour fill empty fold unfold wash cut
reach touch approach point show give hand throw toss catch shake stir mix sort arrange align assemble screw unscrew
lock unlock plug unplug cover uncover load unload return keep stop start finish complete wait look find check
""")

OBJECTS = _words("""
cube block box ball can bottle cup mug bowl plate dish pan pot moka lid tray basket drawer cabinet shelf door handle
knob button lever microwave oven stove burner fridge sink faucet table desk counter floor chair sofa bed wall window
book caddy pen pencil paper eraser marker phone remote laptop keyboard mouse monitor lamp light key hammer screwdriver
wrench nut bolt peg hole ring hook rope cloth towel shirt sponge soap brush knife fork spoon spatula ladle scissors
bread butter cheese milk juice cookies cream ketchup sauce tomato soup salad dressing pudding chocolate alphabet
wine rack apple banana orange lemon pear peach plum strawberry carrot potato onion pepper corn egg meat fish rice cake
robot arm gripper finger hand camera image scene object objects item items thing task goal position target area region
""")

ATTRIBUTES = _words("""
red green blue yellow white black orange purple pink brown gray grey cyan silver gold wooden metal plastic glass round
square flat small large big little tall short long wide thin thick heavy light empty full open closed left right front
back rear top bottom middle center upper lower inner outer near far first second third last one two three four five six
seven eight nine ten both all each every other same different nearest closest
""")

GLUE = _words("""
a an the and or but not no yes is are was be been being has have had do does did done to of in on at by for from into
onto off over under above below between beside next inside outside behind across along around through toward towards
with without up down out away it its this that these those there here then than as if when while after before until so
what which who where why how many much you your i me my we our they them their he she his her can could should would
will may must please image images frame task robot completed complete success failed failure progress percent score
first second think closer objective reasoning process state action trajectory answer question color kind now again
assistant user system
""")

SENTENCES = (
    "lift the red cube",
    "stack the red cube on the green cube",
    "open the drawer",
    "push the cube to the left",
    "pick up the black bowl on the stove and place it on the plate",
    "put the wine bottle on top of the cabinet",
    "turn on the stove and put the moka pot on it",
    "What is the robot doing? The gripper holds the red cube above the table.",
)

WORDS: tuple[str, ...] = tuple(dict.fromkeys((*VERBS, *OBJECTS, *ATTRIBUTES, *GLUE)))
"""Distinct words, in a fixed order: the order decides token ids."""
