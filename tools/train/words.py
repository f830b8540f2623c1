"""The words of the captions: colours, kinds of things by how they are placed, what surrounds a caption, plurals."""


def listed(text):
    return text.strip().replace("\n", " ").split(", ")


# plain backgrounds: colour and how often it is drawn
BG_TABLE = {
    'red': ((218, 56, 52), 3),
    'orange': ((245, 146, 48), 3),
    'yellow': ((250, 216, 78), 4),
    'green': ((86, 170, 92), 4),
    'blue': ((50, 116, 214), 5),
    'light blue': ((160, 212, 244), 4),
    'dark blue': ((26, 44, 104), 2),
    'purple': ((134, 76, 178), 3),
    'pink': ((246, 160, 192), 4),
    'brown': ((124, 84, 60), 1),
    'gray': ((150, 152, 156), 2),
    'white': ((252, 252, 252), 9),
    'black': ((20, 20, 22), 3),
    'beige': ((238, 224, 196), 2),
    'light green': ((186, 224, 160), 2),
    'turquoise': ((64, 190, 186), 2),
}
BG = {name: color for name, (color, _) in BG_TABLE.items()}
BGW = [weight for _, weight in BG_TABLE.values()]

IRREGULAR = dict(pair.split(": ") for pair in listed("""
mouse: mice, sheep: sheep, deer: deer, fish: fish, moose: moose, goose: geese, wolf: wolves, ox: oxen, leaf:
leaves, loaf: loaves, man: men, woman: women, tooth: teeth, knife: knives, shrimp: shrimps, squid: squids, die:
dice, policeman: policemen, fireman: firemen, spaceman: spacemen, scarf: scarves, child: children, foot: feet,
elk: elks, boba: boba, hippo: hippos, rhino: rhinos, potato: potatoes, tomato: tomatoes, mango: mangoes,
volcano: volcanoes, superhero: superheroes, flamingo: flamingos, burrito: burritos, taco: tacos, piano: pianos,
radio: radios, UFO: UFOs, ufo: ufos, dino: dinos, avocado: avocados, kiwi: kiwis, photo: photos, yo-yo: yo-yos,
moai: moai, buffalo: buffaloes, kangaroo: kangaroos, thief: thieves, hen: hens, trousers: trousers, cactus:
cactuses
"""))

NOFLIP = set(listed("""
8 ball, alarm clock, ambulance, earth, fire truck, musical note, piano, police car, stop sign, taxi, watch
"""))
NOCOUNT = set(listed("""
crescent moon, earth, fire, full moon, rainbow, statue of liberty, sun, sun with a face, wave
"""))

FLY = {'air', 'bird', 'bug', 'nightobj', 'sky', 'skyobj', 'space', 'spooky'}
FLYNAMES = {'dragon', 'drop of water', 'fairy', 'genie', 'paper lantern', 'phoenix', 'snowflake'}
BIG = {'boat', 'place', 'rail', 'town'}
RIDERS = listed("""
astronaut, wizard, princess, boy, girl, cat, monkey, robot, santa claus, teddy bear, panda, penguin, frog, chef,
ninja, alien, ghost, dog, man, woman, bear, rabbit, superhero, cowboy, owl, snowman, vampire
""")
MOUNTS = listed("""
horse, elephant, bicycle, motorcycle, dragon, whale, T-Rex, dinosaur, skateboard, camel, pig, cow, scooter,
turtle, dolphin, snail, tiger, sheep, rocket, flying saucer, tractor, fish, cloud, car, goat, llama, sailboat,
bus, steam train
""")

PREFIX = (
    "a picture of |an image of |an illustration of |a drawing of |a cartoon of |a digital illustration of |"
    "clip art of |a simple picture of "
).split("|")
SUFFIX = (
    ", digital art|, illustration|, vector art|, flat design|, cartoon|, clipart|, colorful|, drawing|"
    ", simple illustration|, cartoon style|, emoji"
).split("|")
# words that people put into prompts and that say nothing about the picture: seen now and then, so that they do no harm
NEUTRAL_PRE = (
    "a photo of |a cute |a beautiful |a nice |a painting of |a photograph of |a render of |a happy |a lovely |"
    "a portrait of |a funny |please draw |draw |show me |i want |there is |this is |a close-up of "
).split("|")
NEUTRAL_SUF = (
    ", highly detailed|, high quality|, 4k|, 8k|, masterpiece|, best quality|, trending on artstation|, cute|"
    ", beautiful|, concept art|, oil painting|, realistic|, cinematic lighting|, sharp focus|, detailed|, photo|"
    ", hd|, pretty|.|!|, professional|, award winning|, pixar style|, watercolor"
).split("|")

NUM = {2: 'two', 3: 'three', 4: 'four'}
COLORWORDS = set(BG) | {'gold', 'golden', 'silver', 'grey', 'autumn', 'dairy', 'halloween', 'bald', 'oak'}


def article(w):
    f = w.split()[0].lower()
    if f in ('unicorn', 'ufo', 'one', 'ewe', 'european', 'uniform'):
        return 'a'
    if f in ('hourglass', 'suv', '8'):
        return 'an'
    return 'an' if f[0] in 'aeiou' else 'a'


def plural(n):
    for sep in (' of ', ' with ', ' in ', ' and ', ' behind ', ' hatching ', ' on ', ' wearing '):
        if sep in n:
            h, t = n.split(sep, 1)
            if sep == ' and ':
                return plural(h) + sep + plural(t)
            return plural(h) + sep + t
    p, _, w = n.rpartition(' ')
    if w in IRREGULAR:
        r = IRREGULAR[w]
    elif w.endswith(('s', 'x', 'ch', 'sh', 'z')):
        r = w + 'es'
    elif w.endswith('y') and w[-2] not in 'aeiou':
        r = w[:-1] + 'ies'
    else:
        r = w + 's'
    return (p + ' ' + r) if p else r
