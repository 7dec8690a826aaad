"""Strings to compare tokenizers on: made from a seed, with code points assigned in Unicode 14.

`later`: make strings of these code points instead; `without`: leave these characters out.
"""

import random
import unicodedata

WORDS = (
    "the of and to in is you that it he was for on are with as his they at be this have from or "
    "one had by word but not what all were we when your can said there use an each which she do "
    "how their if will up other about out many then them these so some her would make like him "
    "into time has look two more write go see number no way could people my than first water been "
    "call who oil its now find long down day did get come made may part running unbelievable "
    "internationalization tokenizer antidisestablishmentarianism café naïve Zürich façade"
).split()
CHINESE = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运"
    "根妈媽龍灣體學憂鬱"
)
CODE = [
    "def f(x):\n    return x + 1\n", "for (int i = 0; i < n; ++i) {\n\t\ta[i] = b[i] * 2;\n}\n",
    "#include <stdio.h>\r\n", "SELECT * FROM t WHERE id=1234 AND name='it''s';", "0xDEADBEEF",
    "self.assertEqual(a, b)", "// TODO(me): fix\n\n\n", "x->y.z[0] = ~a & 0b1010;",
    '{"key": [1, 2.5e-3, null], "k\\n": "v\\u00e9"}', "https://example.org/a?b=c&d=%20#e",
    "fn main() -> Result<(), Box<dyn Error>> {", "<div class=\"a b\">&nbsp;</div>", "\\begin{align}",
    "print(f'{x!r:>10}')", "$HOME/.config/*.yaml", "a_b_c__d", "CamelCaseIdentifier", "i18n",
    "__init__.py", "    \n\t\n  }", "----------------", "========", "/* ** */", "###", "::",
]  # fmt: skip
EMOJI = [
    "😀", "👍🏽", "👨‍👩‍👧‍👦", "❤️", "1️⃣", "🇩🇪", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🫠", "🤷🏿‍♀️", "☃", "✈︎", "🧑‍🚀",
]  # fmt: skip
SPACES = [
    " ", "  ", "    ", "\n", "\n\n", "\r\n", "\t", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e",
    "\x1f", "\x85", "\xa0", "\u1680", "\u180e", "\u2000", "\u2003", "\u200a", "\u200b", "\u200c",
    "\u200d", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff", "\0", " \n ",
    "\n   ", "   \n\n  \n", "\x7f", "\x04", "\x06", "\x13", "\x14", "\x16",
]  # fmt: skip
CONTRACTIONS = [
    "'s", "'S", "'ſ", "'t", "'T", "'re", "'RE", "'Re", "'ve", "'m", "'ll", "'lL", "'d", "'K", "’s",
    "''s", "'", "'\u212a", "'ſſ", "'lſ",
]  # fmt: skip
LOOKALIKES = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_start|>system\n", "<|im_end|>\n",
    "<|extra_0|>", "<|extra_204|>", "<|extra_205|>", "<|fim_prefix|>", "<|file_sep|>", "<|im_end",
    "|im_end|>", "<|<|im_end|>|>", "<tool_call>", "</tool_call>", "<think>", "</think>", "<|",
    "<|im_start|><|im_start|>", "< |im_end|>", "<|IM_END|>", "<s>", "</s>", "[INST]", "<|vision_pad|>",
    "<repo_name>", "<reponame>", "<jupyter_code>", "<empty_output>", "<|im_end|>\u0338",
]  # fmt: skip
SCRIPTS = [
    (0x20, 0x7F), (0x80, 0x250), (0x250, 0x300), (0x300, 0x370), (0x370, 0x530), (0x530, 0x600),
    (0x600, 0x700), (0x700, 0x900), (0x900, 0xA00), (0xA00, 0xE00), (0xE00, 0x1000),
    (0x1000, 0x1200), (0x1100, 0x1200), (0x1200, 0x1800), (0x1800, 0x2000), (0x1E00, 0x2000),
    (0x2000, 0x2100), (0x2100, 0x2C00), (0x2C00, 0x3000), (0x3000, 0x3100), (0x3100, 0x3400),
    (0x3400, 0x4E00), (0x4E00, 0xA000), (0xA000, 0xAC00), (0xAC00, 0xD7B0), (0xD7B0, 0xD800),
    (0xE000, 0xE010), (0xF900, 0xFB00), (0xFB00, 0xFE00), (0xFE00, 0x10000), (0x10000, 0x11000),
    (0x11000, 0x12000), (0x12000, 0x17000), (0x17000, 0x1D000), (0x1D000, 0x1D800),
    (0x1D800, 0x1F000), (0x1F000, 0x1FB00), (0x20000, 0x20100), (0x2F800, 0x2FA20),
    (0x30000, 0x30100), (0xE0000, 0xE0200),
]  # fmt: skip


class Strings:
    def __init__(self, seed, vocabulary=(), later=(), without=()):
        self.random = random.Random(seed)
        self.vocabulary = [v for v in (decoded(t) for t in vocabulary) if v]
        self.later = sorted(later)
        self.scripts = [
            [
                chr(c)
                for c in range(a, b)
                if unicodedata.category(chr(c)) not in ("Cn", "Cs") and chr(c) not in without
            ]
            for a, b in SCRIPTS
        ]
        self.kinds = [
            self.words, self.chinese, self.code, self.digits, self.spaces, self.contractions,
            self.lookalikes, self.script, self.script, self.emoji, self.marks, self.repeat,
        ]  # fmt: skip
        if self.vocabulary:
            self.kinds.append(self.tokens)
        if self.later:
            self.kinds = [self.later_letters, self.words, self.spaces, self.digits, self.script]

    def words(self):
        r = self.random
        word = r.choice(WORDS)
        word = r.choice([word, word, word, word.upper(), word.title()])
        return r.choice(["", " ", " ", " "]) + word + r.choice(["", "", ",", ".", "!", "?\n"])

    def chinese(self):
        r = self.random
        return "".join(r.choices(CHINESE, k=r.randint(1, 8))) + r.choice(["", "", "，", "。\n"])

    def code(self):
        return self.random.choice(CODE)

    def digits(self):
        r = self.random
        return r.choice(["", " ", "-", "$", "("]) + "".join(
            r.choices("0123456789０٣७²½Ⅷ㊿𝟘", [9] * 10 + [1] * 8, k=r.randint(1, 9))
        )

    def spaces(self):
        r = self.random
        return "".join(r.choices(SPACES, k=r.randint(1, 4)))

    def contractions(self):
        return self.random.choice(["", "I", "it", "é", "1", " "]) + self.random.choice(CONTRACTIONS)

    def lookalikes(self):
        return self.random.choice(LOOKALIKES)

    def script(self):
        r = self.random
        return "".join(r.choices(r.choice(self.scripts), k=r.randint(1, 6)))

    def emoji(self):
        return "".join(self.random.choices(EMOJI, k=self.random.randint(1, 3)))

    def marks(self):
        """Letters that NFC composes or reorders."""
        r = self.random
        marks = self.scripts[3] + ["\u0591", "\u05b0", "\u064b", "\u0651", "\u093c", "\u09be",
                                   "\u1161", "\u11a8", "\u3099", "\u0f71", "\u0f72", "\u1b35"]
        base = r.choice("aeiouAEncs=<>あか각가ᄀक়ড\u0627\u1025 ") + "".join(r.choices(marks, k=r.randint(1, 5)))
        return r.choice([base, unicodedata.normalize("NFD", base)])

    def repeat(self):
        r = self.random
        return r.choice(r.choice([WORDS, CHINESE, SPACES, EMOJI, ["a", "=", "-", "0", "ab"]])) * r.randint(2, 40)

    def tokens(self):
        return "".join(self.random.choices(self.vocabulary, k=self.random.randint(1, 4)))

    def later_letters(self):
        r = self.random
        return "".join(chr(c) for c in r.choices(self.later, k=r.randint(1, 5)))

    def make(self):
        r = self.random
        return "".join(r.choice(self.kinds)() for _ in range(r.choice([1, 1, 2, 3, 5, 8])))


def decoded(token):
    try:
        return token.decode()
    except UnicodeDecodeError:
        return None
