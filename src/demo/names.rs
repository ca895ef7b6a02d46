//! What people are called, by country: banks of given and family names.

use rand_chacha::ChaCha8Rng;

use super::random::{chance, pick};

/// A country that the shop delivers to.
#[derive(Debug)]
pub(super) struct Country {
    /// ISO 3166 code of two letters.
    pub code: &'static str,
    /// Share of the customers, in percent.
    pub share: f64,
    /// The language of [`super::phrases::FOREIGN`] its people may write reviews in.
    pub language: &'static str,
    /// True where the family name comes first and no space parts the two.
    family_first: bool,
    given: &'static [&'static str],
    family: &'static [&'static str],
}

impl Country {
    /// A full name, as people there write it.
    pub(super) fn name(&self, rng: &mut ChaCha8Rng) -> String {
        let (given, family) = (pick(rng, self.given), pick(rng, self.family));
        if self.family_first {
            return format!("{family}{given}");
        }
        match self.language {
            "en" if chance(rng, 0.12) => format!("{given} {}. {family}", pick(rng, &["A", "J", "M", "R", "T"])),
            "es" if chance(rng, 0.3) => format!("{given} {family} {}", pick(rng, self.family)),
            "de" | "fr" | "nl" if chance(rng, 0.06) => format!("{given} {family}-{}", pick(rng, self.family)),
            _ => format!("{given} {family}"),
        }
    }
}

/// The countries, largest first; the shares fall off as a shop's do.
pub(super) const COUNTRIES: [Country; 18] = [
    Country { code: "US", share: 22.0, language: "en", family_first: false, given: ENGLISH, family: ENGLISH_FAMILIES },
    Country { code: "GB", share: 14.0, language: "en", family_first: false, given: ENGLISH, family: ENGLISH_FAMILIES },
    Country {
        code: "DE",
        share: 12.0,
        language: "de",
        family_first: false,
        given: &[
            "Anna",
            "Jürgen",
            "Lukas",
            "Sabine",
            "Käthe",
            "Felix",
            "Björn",
            "Monika",
            "Jonas",
            "Ursula",
            "Günther",
            "Leonie",
            "Matthias",
            "Heike",
            "Tobias",
            "Friederike",
            "Jörg",
            "Marlene",
        ],
        family: &[
            "Müller",
            "Schmidt",
            "Schneider",
            "Fischer",
            "Weber",
            "Schäfer",
            "Becker",
            "Köhler",
            "Richter",
            "Weiß",
            "Krüger",
            "Hofmann",
            "Groß",
            "Lange",
            "Vogel",
            "Böhm",
            "Winter",
            "Jäger",
        ],
    },
    Country {
        code: "FR",
        share: 9.0,
        language: "fr",
        family_first: false,
        given: &[
            "Camille",
            "Hélène",
            "Jérôme",
            "Léa",
            "François",
            "Margaux",
            "Théo",
            "Aurélie",
            "Noémie",
            "Benoît",
            "Chloé",
            "Étienne",
            "Inès",
            "Mathieu",
            "Solène",
            "Loïc",
        ],
        family: &[
            "Martin",
            "Lefèvre",
            "Dubois",
            "Moreau",
            "Garnier",
            "Rousseau",
            "D'Aubigné",
            "Chevalier",
            "Fournier",
            "Gauthier",
            "Béranger",
            "Lemaître",
            "Perrin",
            "Noël",
            "Marchand",
            "L'Hermite",
        ],
    },
    Country {
        code: "ES",
        share: 7.0,
        language: "es",
        family_first: false,
        given: &[
            "María", "José", "Lucía", "Íñigo", "Carmen", "Javier", "Begoña", "Álvaro", "Nuria", "Andrés", "Inés",
            "Rubén", "Pilar", "Óscar",
        ],
        family: &[
            "García",
            "Fernández",
            "Núñez",
            "López",
            "Martínez",
            "Ibáñez",
            "Pérez",
            "Gómez",
            "Muñoz",
            "Álvarez",
            "Romero",
            "Peña",
            "Castro",
            "Ordóñez",
        ],
    },
    Country {
        code: "IT",
        share: 6.0,
        language: "it",
        family_first: false,
        given: &[
            "Giulia",
            "Marco",
            "Niccolò",
            "Chiara",
            "Alessandro",
            "Francesca",
            "Davide",
            "Elena",
            "Lorenzo",
            "Sofia",
            "Matteo",
            "Ilaria",
        ],
        family: &[
            "Rossi",
            "Russo",
            "Ferrari",
            "Esposito",
            "Bianchi",
            "D'Angelo",
            "Colombo",
            "Ricci",
            "Dell'Acqua",
            "Marchetti",
            "Conti",
            "Nicolò",
        ],
    },
    Country {
        code: "NL",
        share: 5.0,
        language: "nl",
        family_first: false,
        given: &["Daan", "Sanne", "Joris", "Lotte", "Bram", "Fleur", "Thijs", "Noor", "Koen", "Zoë", "Renée", "Sjoerd"],
        family: &[
            "de Jong",
            "van den Berg",
            "Bakker",
            "Visser",
            "van 't Hoff",
            "Smit",
            "Meijer",
            "de Groot",
            "Mulder",
            "Dijkstra",
            "van der Meer",
            "IJzerman",
        ],
    },
    Country {
        code: "BR",
        share: 4.5,
        language: "pt",
        family_first: false,
        given: &[
            "João",
            "Mariana",
            "Antônio",
            "Letícia",
            "Gonçalo",
            "Beatriz",
            "Caio",
            "Thaís",
            "Rafael",
            "Conceição",
            "Luís",
            "Júlia",
        ],
        family: &[
            "Silva",
            "Conceição",
            "Araújo",
            "Gonçalves",
            "Souza",
            "Magalhães",
            "Ferreira",
            "Guimarães",
            "Brandão",
            "Lima",
            "Sant'Anna",
            "Nóbrega",
        ],
    },
    Country {
        code: "PL",
        share: 4.0,
        language: "pl",
        family_first: false,
        given: &[
            "Agnieszka",
            "Łukasz",
            "Małgorzata",
            "Paweł",
            "Zofia",
            "Michał",
            "Żaneta",
            "Tomasz",
            "Wojciech",
            "Bożena",
        ],
        family: &[
            "Kowalczyk",
            "Wiśniewska",
            "Wójcik",
            "Zieliński",
            "Dąbrowska",
            "Jabłoński",
            "Grabowska",
            "Król",
            "Świątek",
            "Źródłowski",
        ],
    },
    Country { code: "IE", share: 3.0, language: "en", family_first: false, given: IRISH, family: IRISH_FAMILIES },
    Country {
        code: "SE",
        share: 2.5,
        language: "sv",
        family_first: false,
        given: &["Åsa", "Björn", "Elin", "Göran", "Maja", "Nils", "Örjan", "Saga", "Tove", "Henrik"],
        family: &[
            "Andersson",
            "Åkesson",
            "Bergström",
            "Lindqvist",
            "Nyström",
            "Öberg",
            "Sjögren",
            "Ekström",
            "Hägg",
            "Dahl",
        ],
    },
    Country {
        code: "JP",
        share: 2.5,
        language: "ja",
        family_first: true,
        given: &["陽菜", "蓮", "さくら", "大翔", "美咲", "健太", "葵", "直樹", "結衣", "翔太"],
        family: &["佐藤", "鈴木", "高橋", "田中", "渡辺", "伊藤", "山本", "中村", "小林", "加藤"],
    },
    Country {
        code: "IN",
        share: 2.5,
        language: "en",
        family_first: false,
        given: &["Aarav", "Priya", "Rohan", "Ananya", "Vikram", "Kavya", "Arjun", "Meera", "Sanjay", "Lakshmi"],
        family: &["Sharma", "Patel", "Iyer", "Reddy", "Gupta", "Nair", "Singh", "Banerjee", "Desai", "Rao"],
    },
    Country {
        code: "TR",
        share: 1.6,
        language: "tr",
        family_first: false,
        given: &["Ayşe", "Çağrı", "Elif", "Gökhan", "İpek", "Mehmet", "Şule", "Ömer", "Zeynep", "Uğur"],
        family: &["Yılmaz", "Çelik", "Demir", "Öztürk", "Şahin", "Aydın", "Kılıç", "Doğan", "Güneş", "Işık"],
    },
    Country {
        code: "GR",
        share: 1.4,
        language: "el",
        family_first: false,
        given: &["Ελένη", "Γιώργος", "Μαρία", "Νίκος", "Σοφία", "Δημήτρης", "Κατερίνα", "Γιάννης"],
        family: &[
            "Παπαδόπουλος",
            "Οικονόμου",
            "Γεωργίου",
            "Βασιλείου",
            "Νικολαΐδης",
            "Αγγέλου",
            "Δημητρίου",
            "Λάμπρου",
        ],
    },
    Country {
        code: "KR",
        share: 1.2,
        language: "ko",
        family_first: true,
        given: &["서연", "민준", "지우", "하은", "도윤", "수빈", "예준", "은지"],
        family: &["김", "이", "박", "최", "정", "강", "조", "윤"],
    },
    Country {
        code: "UA",
        share: 1.0,
        language: "uk",
        family_first: false,
        given: &["Олена", "Андрій", "Марія", "Тарас", "Соломія", "Богдан", "Ірина", "Юрій"],
        family: &["Шевченко", "Коваленко", "Бондар", "Мельник", "Ткачук", "Лисенко", "Савчук", "Гончар"],
    },
    Country {
        code: "IL",
        share: 0.8,
        language: "he",
        family_first: false,
        given: &["נועה", "דוד", "תמר", "יונתן", "מאיה", "איתי", "שירה", "עומר"],
        family: &["כהן", "לוי", "מזרחי", "פרץ", "ביטון", "אברהם", "פרידמן", "שפירא"],
    },
];

const ENGLISH: &[&str] = &[
    "Olivia",
    "James",
    "Amelia",
    "Noah",
    "Charlotte",
    "Liam",
    "Sophia",
    "Benjamin",
    "Ava",
    "William",
    "Grace",
    "Henry",
    "Hannah",
    "Jack",
    "Chloë",
    "Samuel",
    "Emily",
    "Daniel",
    "Lily",
    "Theodore",
    "Ruby",
    "Oscar",
    "Isla",
    "Harrison",
    "Ella",
    "Marcus",
    "Zoe",
    "Anthony",
    "Renée",
    "Tyrone",
    "Megan",
    "Walter",
    "Priscilla",
    "Dwayne",
];

const ENGLISH_FAMILIES: &[&str] = &[
    "Smith",
    "Johnson",
    "Williams",
    "Brown",
    "Taylor",
    "Davies",
    "Wilson",
    "Evans",
    "Thomas",
    "Roberts",
    "O'Brien",
    "Walker",
    "Wright",
    "Robinson",
    "Thompson",
    "Hughes",
    "Edwards",
    "Green",
    "Hall",
    "Wood",
    "Harris",
    "Clarke",
    "Jackson",
    "Turner",
    "Hill",
    "Cooper",
    "Morris",
    "Ward",
    "Moore",
    "Carter",
    "Brontë",
    "St. John",
    "McAllister",
    "Washington",
    "Nguyen",
    "Garcia",
];

const IRISH: &[&str] = &["Aoife", "Seán", "Niamh", "Cillian", "Róisín", "Oisín", "Siobhán", "Pádraig", "Ciara", "Eoin"];

const IRISH_FAMILIES: &[&str] = &[
    "O'Brien",
    "Murphy",
    "O'Sullivan",
    "Kelly",
    "Byrne",
    "O'Connor",
    "Ní Dhomhnaill",
    "Doyle",
    "Gallagher",
    "MacCarthy",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::random::{Concern, stream};

    #[test]
    fn names_are_written_as_at_home() {
        let mut rng = stream(1, Concern::Customer, 0);
        let mut names_in = |code: &str| {
            let country = COUNTRIES.iter().find(|country| country.code == code).unwrap();
            (0..200).map(|_| country.name(&mut rng)).collect::<Vec<_>>()
        };
        assert!(names_in("JP").iter().all(|name| !name.contains(' ')));
        assert!(names_in("IE").iter().any(|name| name.contains("O'Brien")));
        assert!(names_in("DE").iter().any(|name| name.contains('ü')));
    }

    #[test]
    fn countries_fall_off_and_do_not_repeat() {
        assert!(COUNTRIES.windows(2).all(|two| two[0].share >= two[1].share));
        let mut codes: Vec<_> = COUNTRIES.iter().map(|country| country.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), COUNTRIES.len());
    }
}
