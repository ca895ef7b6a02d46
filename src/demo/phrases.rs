//! What reviews are made of: sentences by tone and aspect, and whole reviews in other languages.

/// What the words say, which is nearly always what the stars say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Positive,
    Neutral,
    Negative,
}

impl Tone {
    pub(super) fn name(self) -> &'static str {
        match self {
            Tone::Positive => "positive",
            Tone::Neutral => "neutral",
            Tone::Negative => "negative",
        }
    }
}

/// Sentences about one thing, by tone. `{item}` stands for the product's noun.
#[derive(Debug)]
pub(super) struct Phrases {
    positive: &'static [&'static str],
    neutral: &'static [&'static str],
    negative: &'static [&'static str],
}

impl Phrases {
    pub(super) fn of(&self, tone: Tone) -> &'static [&'static str] {
        match tone {
            Tone::Positive => self.positive,
            Tone::Neutral => self.neutral,
            Tone::Negative => self.negative,
        }
    }
}

/// What a review is about.
#[derive(Debug)]
pub(super) struct Aspect {
    pub name: &'static str,
    /// How often people write about it, in parts of 100.
    pub share: f64,
    phrases: Phrases,
}

impl Aspect {
    pub(super) fn of(&self, tone: Tone) -> &'static [&'static str] {
        self.phrases.of(tone)
    }
}

/// One whole review: title, body, aspect.
type Whole = (&'static str, &'static str, &'static str);

/// Whole reviews in one language.
#[derive(Debug)]
pub(super) struct Foreign {
    pub language: &'static str,
    positive: &'static [Whole],
    neutral: &'static [Whole],
    negative: &'static [Whole],
}

impl Foreign {
    pub(super) fn of(&self, tone: Tone) -> &'static [Whole] {
        match tone {
            Tone::Positive => self.positive,
            Tone::Neutral => self.neutral,
            Tone::Negative => self.negative,
        }
    }
}

pub(super) const TITLES: Phrases = Phrases {
    positive: &[
        "Love it",
        "Exactly what I wanted",
        "Would buy again",
        "Five stars",
        "A little treasure",
        "Better than expected",
        "Very happy",
        "Great find",
        "Perfect gift",
        "Beautifully made",
        "Highly recommended",
        "Worth every cent",
        "My new favourite",
        "Just right",
        "Can't fault it",
    ],
    neutral: &[
        "It's okay",
        "Does the job",
        "Mixed feelings",
        "Fine, not special",
        "Average",
        "As described",
        "Not bad",
        "Decent enough",
        "Good idea, so-so result",
        "Three stars",
        "Nothing to write home about",
    ],
    negative: &[
        "Disappointed",
        "Not again",
        "Sent it back",
        "Don't bother",
        "Poor quality",
        "Waste of money",
        "Not as described",
        "Very let down",
        "Broke at once",
        "Avoid",
        "Expected more",
        "One star is too many",
        "What a shame",
    ],
};

/// Openings that name the product.
pub(super) const NAMED: Phrases = Phrases {
    positive: &[
        "I adore this {item}.",
        "This {item} made my week.",
        "What a lovely {item}!",
        "My sister saw the {item} and ordered one too.",
        "I was looking for a {item} like this for years.",
        "We use the {item} every single day.",
        "The {item} is even nicer than in the pictures.",
        "Bought the {item} as a present and wanted to keep it.",
        "Second {item} I have bought here, and again I am delighted.",
        "Honestly the best {item} I have owned.",
        "After two months the {item} still looks like new.",
        "My daughter won't let go of this {item}.",
    ],
    neutral: &[
        "The {item} is all right.",
        "I have had the {item} for a month now.",
        "Bought this {item} on a whim.",
        "There are better and worse choices than this {item}.",
        "The {item} does what it should, no more.",
        "I can't decide whether I like the {item}.",
        "My old {item} was about the same.",
        "A {item} like many others.",
        "For the guest room the {item} will do.",
    ],
    negative: &[
        "I wanted to like this {item}.",
        "The {item} went straight back.",
        "This {item} is a letdown.",
        "Sadly the {item} lasted a week.",
        "I regret buying this {item}.",
        "Never had a {item} this bad.",
        "The {item} looks nothing like the pictures.",
        "My old {item} from the flea market was better.",
        "The {item} was broken when I opened the box.",
        "Do yourself a favour and choose another {item}.",
        "I have rarely been so annoyed by a {item}.",
    ],
};

/// Endings that could stand under anything.
pub(super) const GENERAL: Phrases = Phrases {
    positive: &[
        "I'd buy it again tomorrow.",
        "Thank you!",
        "Highly recommended.",
        "My friends are jealous.",
        "A joy to use.",
        "Will order more as gifts.",
        "Well done.",
        "Ten out of ten.",
        "I smile whenever I see it.",
        "Simply wonderful.",
    ],
    neutral: &[
        "Let's see how it lasts.",
        "Three stars from me.",
        "Nothing more to say.",
        "I might look elsewhere next time.",
        "It depends on what you need.",
        "Neither thrilled nor upset.",
        "You get what you see.",
    ],
    negative: &[
        "I want my money back.",
        "Never again.",
        "Stay away.",
        "I expected better from this shop.",
        "So annoying.",
        "Into the bin it went.",
        "A waste of time.",
        "Would give zero stars if I could.",
        "I am really cross.",
    ],
};

pub(super) const ASPECTS: [Aspect; 8] = [
    Aspect {
        name: "quality",
        share: 24.0,
        phrases: Phrases {
            positive: &[
                "The workmanship is superb.",
                "Solid, sturdy and built to last.",
                "You can feel the quality at once.",
                "Every seam and edge is finished with care.",
                "It has survived my children, which says it all.",
                "Flawless from the first day on.",
            ],
            neutral: &[
                "The quality is average.",
                "Well enough made, with one loose edge.",
                "It feels neither cheap nor special.",
                "Some scratches, but it works.",
                "The finish could be neater.",
            ],
            negative: &[
                "It fell apart within days.",
                "Shoddy workmanship all over.",
                "The seams were already coming loose.",
                "It feels flimsy and cheap.",
                "It broke the second time I used it.",
                "There are scratches everywhere.",
            ],
        },
    },
    Aspect {
        name: "delivery",
        share: 18.0,
        phrases: Phrases {
            positive: &[
                "Delivery took only two days.",
                "It arrived a day early.",
                "Quick shipping and a friendly courier.",
                "Ordered on Monday, unpacked on Wednesday.",
                "The parcel was here faster than promised.",
            ],
            neutral: &[
                "Delivery took a week, as announced.",
                "The parcel was left with a neighbour.",
                "Shipping was neither fast nor slow.",
                "It came in two parcels on different days.",
            ],
            negative: &[
                "Delivery took almost five weeks.",
                "The courier threw the parcel over the fence.",
                "It arrived far too late for the birthday.",
                "Tracking said delivered, but nothing was there for days.",
                "Three delivery dates were promised and none was kept.",
            ],
        },
    },
    Aspect {
        name: "size",
        share: 14.0,
        phrases: Phrases {
            positive: &[
                "The size is just right.",
                "It fits perfectly where I wanted it.",
                "Bigger than I thought, in a good way.",
                "Compact, yet there is room for everything.",
                "The measurements are exactly as stated.",
            ],
            neutral: &[
                "A little smaller than I thought.",
                "The size is fine if you measure first.",
                "It is on the large side for our flat.",
                "It fits, just about.",
            ],
            negative: &[
                "It is much too small.",
                "Far bigger than described, it does not fit anywhere.",
                "The measurements on the page are simply wrong.",
                "It looks like it was made for a doll.",
                "The size is useless for grown-ups.",
            ],
        },
    },
    Aspect {
        name: "material",
        share: 14.0,
        phrases: Phrases {
            positive: &[
                "The material feels wonderful.",
                "Lovely texture, natural and warm to the touch.",
                "The material smells of nothing, as it should.",
                "It ages beautifully.",
                "You notice at once that good material was used.",
            ],
            neutral: &[
                "The material is okay, a bit thin perhaps.",
                "It feels different from the pictures, though not bad.",
                "The material needs some care.",
                "Softer would be nicer, but fine.",
            ],
            negative: &[
                "The material smells of chemicals.",
                "Cheap plastic instead of what was promised.",
                "It is scratchy and unpleasant to touch.",
                "The colour came off on my hands.",
                "The material cracked in the first week.",
            ],
        },
    },
    Aspect {
        name: "price",
        share: 12.0,
        phrases: Phrases {
            positive: &[
                "Great value for the price.",
                "Not cheap, but worth every cent.",
                "A bargain at this price.",
                "I have seen the same for twice the money.",
                "For what it costs it is unbeatable.",
            ],
            neutral: &[
                "The price is okay for what you get.",
                "A bit pricey, but fair in the sale.",
                "You pay a little for the name.",
                "Neither cheap nor expensive.",
            ],
            negative: &[
                "Hopelessly overpriced.",
                "Way too expensive for this quality.",
                "The week after it was half the price.",
                "A rip-off, plain and simple.",
                "I paid good money for rubbish.",
            ],
        },
    },
    Aspect {
        name: "design",
        share: 8.0,
        phrases: Phrases {
            positive: &[
                "The design is gorgeous.",
                "Such beautiful colours.",
                "It looks stunning in our hallway.",
                "Simple, elegant and clever.",
                "Everybody asks where it is from.",
            ],
            neutral: &[
                "The colour is a shade darker than on the screen.",
                "The design is plain, which can be good.",
                "Looks a bit dated, works fine.",
                "Not my colour after all.",
            ],
            negative: &[
                "The colour is dreadful.",
                "Looks cheap in real life.",
                "An ugly logo nobody mentioned.",
                "Whoever designed this never used it.",
                "The pattern was printed askew.",
            ],
        },
    },
    Aspect {
        name: "packaging",
        share: 5.0,
        phrases: Phrases {
            positive: &[
                "Packed with love and without plastic.",
                "The gift box alone is a delight.",
                "Carefully wrapped, not a scratch.",
                "The packaging is pretty enough to keep.",
            ],
            neutral: &[
                "The box was dented, the contents fine.",
                "A lot of paper for a small thing.",
                "Plain packaging, so wrap it yourself.",
            ],
            negative: &[
                "The box arrived crushed and wet.",
                "So much plastic around it, terrible.",
                "It rattled loose in a huge box and got damaged.",
                "Opened and taped up again, clearly a return.",
            ],
        },
    },
    Aspect {
        name: "service",
        share: 5.0,
        phrases: Phrases {
            positive: &[
                "Customer service answered within the hour.",
                "A missing screw was sent the next day, free of charge.",
                "Very kind people on the phone.",
                "The exchange went smoothly and quickly.",
            ],
            neutral: &[
                "Customer service answered after three days.",
                "I had to ask twice, then it was sorted.",
                "The instructions could be clearer.",
            ],
            negative: &[
                "Customer service never replied.",
                "They refused to take it back.",
                "I was left hanging on the phone for an hour.",
                "Five emails, no refund.",
            ],
        },
    },
];

pub(super) const FOREIGN: [Foreign; 10] = [
    Foreign {
        language: "de",
        positive: &[
            ("Sehr schön!", "Wunderschön verarbeitet, wir sind begeistert. Gerne wieder!", "quality"),
            ("Schnell da", "Lieferung nach zwei Tagen, alles bestens. Größe passt genau.", "delivery"),
            ("Top Preis", "Für diesen Preis unschlagbar, ich würde es sofort wieder kaufen.", "price"),
        ],
        neutral: &[
            ("Ganz okay", "Erfüllt seinen Zweck, mehr aber auch nicht.", "quality"),
            ("Etwas klein", "Fällt etwas kleiner aus als gedacht, sonst in Ordnung.", "size"),
        ],
        negative: &[
            ("Enttäuscht", "Nach einer Woche kaputt, leider sehr schlechte Qualität.", "quality"),
            ("Nie wieder", "Lieferung dauerte fünf Wochen und der Kundenservice antwortet nicht.", "delivery"),
        ],
    },
    Foreign {
        language: "fr",
        positive: &[
            ("Très beau", "Une vraie merveille, la matière est douce et très agréable.", "material"),
            ("Parfait !", "Reçu en deux jours, très bien emballé. Je recommande sans hésiter.", "delivery"),
            ("Ravie", "Le rapport qualité-prix est excellent, ma mère a adoré.", "price"),
        ],
        neutral: &[
            ("Correct", "Conforme à la description, sans plus.", "quality"),
            ("Bof", "Un peu plus petit que prévu, mais ça ira.", "size"),
        ],
        negative: &[
            ("Déçue", "Cassé dès la première utilisation, quelle déception.", "quality"),
            ("À éviter", "Beaucoup trop cher pour du plastique. Je l'ai renvoyé.", "price"),
        ],
    },
    Foreign {
        language: "es",
        positive: &[
            ("¡Me encanta!", "Es precioso y la calidad es buenísima. ¡Lo volvería a comprar!", "quality"),
            ("Perfecto", "Llegó antes de lo previsto y muy bien envuelto.", "delivery"),
        ],
        neutral: &[("Normal", "Cumple su función, aunque esperaba un tamaño mayor.", "size")],
        negative: &[
            ("Qué decepción", "Se rompió a la semana. No lo recomiendo a nadie.", "quality"),
            ("Mal servicio", "Nadie contesta a mis correos y todavía espero el reembolso.", "service"),
        ],
    },
    Foreign {
        language: "it",
        positive: &[
            ("Bellissimo", "Materiali ottimi e cura dei dettagli, più bello che in foto.", "material"),
            ("Consigliato", "Spedizione velocissima, è già il secondo che compro.", "delivery"),
        ],
        neutral: &[("Così così", "Niente di speciale, ma fa il suo dovere.", "quality")],
        negative: &[("Pessimo", "Arrivato rotto e con la scatola schiacciata. È una vergogna.", "packaging")],
    },
    Foreign {
        language: "nl",
        positive: &[("Heel blij mee", "Prachtig gemaakt en snel geleverd, een echte aanrader!", "quality")],
        neutral: &[("Prima", "Doet wat het moet doen, niets bijzonders. Iets te duur.", "price")],
        negative: &[("Teleurgesteld", "Na één keer gebruiken al stuk. Zonde van het geld.", "quality")],
    },
    Foreign {
        language: "pt",
        positive: &[("Adorei!", "Lindo demais, o acabamento é ótimo e chegou rápido. Recomendo!", "quality")],
        neutral: &[("Razoável", "É bom, mas o tamanho não é bem o que eu esperava.", "size")],
        negative: &[("Péssimo", "Não chegou no prazo e veio com defeito. Não comprem.", "delivery")],
    },
    Foreign {
        language: "pl",
        positive: &[("Świetny zakup", "Piękne wykonanie, szybka wysyłka. Polecam każdemu!", "quality")],
        neutral: &[("Może być", "Zgodne z opisem, ale bez zachwytu.", "quality")],
        negative: &[("Rozczarowanie", "Zepsuło się po tygodniu, żałuję że kupiłam.", "quality")],
    },
    Foreign {
        language: "ja",
        positive: &[
            ("大満足です", "とても丁寧に作られていて、毎日使っています。買ってよかったです。", "quality"),
            ("また買います", "配送が早く、梱包もきれいでした。プレゼントにも喜ばれました。", "delivery"),
        ],
        neutral: &[("普通です", "可もなく不可もなく。思ったより少し小さいです。", "size")],
        negative: &[("残念", "一週間で壊れました。値段が高いのに品質が悪いです。", "quality")],
    },
    Foreign {
        language: "el",
        positive: &[("Υπέροχο!", "Εξαιρετική ποιότητα και γρήγορη αποστολή. Το συνιστώ!", "quality")],
        neutral: &[("Μέτριο", "Κάνει τη δουλειά του, τίποτα ιδιαίτερο.", "quality")],
        negative: &[("Απογοήτευση", "Έφτασε σπασμένο και δεν απαντάει κανείς.", "service")],
    },
    Foreign {
        language: "tr",
        positive: &[("Çok güzel", "Kalitesi harika, kargo çok hızlıydı. Teşekkürler!", "quality")],
        neutral: &[("İdare eder", "Beklediğimden biraz küçük ama iş görüyor.", "size")],
        negative: &[("Hiç beğenmedim", "Bir haftada bozuldu, param boşa gitti.", "quality")],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    const TONES: [Tone; 3] = [Tone::Positive, Tone::Neutral, Tone::Negative];

    #[test]
    fn there_are_enough_words_for_every_mood() {
        let english = ASPECTS.iter().flat_map(|aspect| TONES.map(|tone| aspect.of(tone).len()));
        assert!(english.clone().all(|n| n >= 3));
        let frames = [&TITLES, &NAMED, &GENERAL].into_iter().flat_map(|bank| TONES.map(|tone| bank.of(tone).len()));
        assert!(english.sum::<usize>() + frames.sum::<usize>() > 180);
        assert!(FOREIGN.iter().all(|foreign| TONES.iter().all(|tone| !foreign.of(*tone).is_empty())));
    }

    #[test]
    fn foreign_reviews_are_about_known_aspects() {
        let known = |name: &str| ASPECTS.iter().any(|aspect| aspect.name == name);
        for foreign in &FOREIGN {
            assert!(TONES.iter().all(|tone| foreign.of(*tone).iter().all(|(_, _, aspect)| known(aspect))));
        }
        assert!((ASPECTS.iter().map(|aspect| aspect.share).sum::<f64>() - 100.0).abs() < 1e-9);
    }
}
