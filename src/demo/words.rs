//! What the goods are called: the twelve categories with their nouns, materials and prices.

/// The latent factors that products lean on and customers have a taste for.
pub(super) const FACTORS: [&str; N_FACTORS] = ["outdoors", "cooking", "style", "tech", "play", "calm"];

pub(super) const N_FACTORS: usize = 6;

/// A shelf of the shop.
#[derive(Debug)]
pub(super) struct Category {
    pub name: &'static str,
    /// How much its products lean on each of [`FACTORS`], before each product's own character.
    pub factors: [f64; N_FACTORS],
    /// Price of the middle product, in whole units of money.
    pub price: f64,
    /// Probability that a line goes back, before quality and fit.
    pub returns: f64,
    pub nouns: &'static [&'static str],
    pub materials: &'static [&'static str],
}

pub(super) const CATEGORIES: [Category; 12] = [
    Category {
        name: "Kitchen",
        factors: [0.0, 1.0, 0.1, 0.0, 0.0, 0.1],
        price: 28.0,
        returns: 0.04,
        nouns: &["Pan", "Chopping Board", "Teapot", "Bowl Set", "Knife", "Casserole", "Whisk", "Spice Rack", "Mug"],
        materials: &["Cast Iron", "Oak", "Stoneware", "Copper", "Steel", "Bamboo"],
    },
    Category {
        name: "Garden",
        factors: [0.8, 0.1, 0.0, 0.0, 0.1, 0.5],
        price: 26.0,
        returns: 0.04,
        nouns: &["Planter", "Watering Can", "Secateurs", "Bird House", "Trellis", "Trowel", "Fire Bowl", "Bench"],
        materials: &["Terracotta", "Zinc", "Larch", "Steel", "Willow", "Concrete"],
    },
    Category {
        name: "Home Textiles",
        factors: [0.0, 0.0, 0.4, 0.0, 0.0, 0.9],
        price: 34.0,
        returns: 0.07,
        nouns: &["Blanket", "Cushion", "Towel", "Bed Linen", "Rug", "Curtain", "Tablecloth", "Bathrobe"],
        materials: &["Linen", "Merino", "Organic Cotton", "Velvet", "Jute", "Cashmere"],
    },
    Category {
        name: "Lighting",
        factors: [0.0, 0.0, 0.6, 0.6, 0.0, 0.2],
        price: 58.0,
        returns: 0.06,
        nouns: &["Desk Lamp", "Pendant", "Floor Lamp", "Lantern", "Wall Light", "Night Light", "String Lights"],
        materials: &["Brass", "Opal Glass", "Rattan", "Paper", "Aluminium", "Smoked Glass"],
    },
    Category {
        name: "Books",
        factors: [0.0, 0.2, 0.0, 0.0, 0.6, 0.6],
        price: 17.0,
        returns: 0.02,
        nouns: &["Cookbook", "Atlas", "Novel", "Field Guide", "Picture Book", "Anthology", "Biography", "Handbook"],
        materials: &["Hardback", "Pocket", "Illustrated", "Clothbound", "Signed", "Facsimile"],
    },
    Category {
        name: "Toys",
        factors: [0.1, 0.0, 0.0, 0.1, 1.0, 0.0],
        price: 24.0,
        returns: 0.05,
        nouns: &["Train Set", "Puzzle", "Building Blocks", "Kite", "Doll's House", "Board Game", "Marble Run", "Bear"],
        materials: &["Beech", "Felt", "Tin", "Maple", "Cardboard", "Plush"],
    },
    Category {
        name: "Camping",
        factors: [1.0, 0.2, 0.0, 0.1, 0.0, 0.0],
        price: 62.0,
        returns: 0.06,
        nouns: &["Tent", "Sleeping Bag", "Stove", "Headlamp", "Hammock", "Flask", "Cool Box", "Tarp"],
        materials: &["Ripstop", "Titanium", "Canvas", "Down", "Recycled Nylon", "Enamel"],
    },
    Category {
        name: "Fitness",
        factors: [0.6, 0.0, 0.1, 0.4, 0.1, 0.3],
        price: 38.0,
        returns: 0.08,
        nouns: &["Yoga Mat", "Kettlebell", "Foam Roller", "Skipping Rope", "Bottle", "Resistance Band", "Running Vest"],
        materials: &["Cork", "Natural Rubber", "Iron", "Neoprene", "Bamboo", "Mesh"],
    },
    Category {
        name: "Beauty",
        factors: [0.0, 0.0, 0.8, 0.0, 0.0, 0.6],
        price: 21.0,
        returns: 0.03,
        nouns: &["Soap", "Face Oil", "Hand Cream", "Shampoo Bar", "Perfume", "Bath Salts", "Hair Brush", "Balm"],
        materials: &["Rose", "Sandalwood", "Lavender", "Olive", "Oat", "Bergamot"],
    },
    Category {
        name: "Bags",
        factors: [0.3, 0.0, 1.0, 0.1, 0.0, 0.0],
        price: 72.0,
        returns: 0.11,
        nouns: &["Backpack", "Tote", "Weekender", "Wallet", "Messenger Bag", "Belt Bag", "Laptop Sleeve", "Clutch"],
        materials: &["Leather", "Waxed Canvas", "Suede", "Recycled Nylon", "Wool Felt", "Raffia"],
    },
    Category {
        name: "Audio",
        factors: [0.0, 0.0, 0.1, 1.0, 0.2, 0.1],
        price: 89.0,
        returns: 0.08,
        nouns: &["Headphones", "Speaker", "Turntable", "Radio", "Earbuds", "Microphone", "Soundbar", "Record Shelf"],
        materials: &["Walnut", "Aluminium", "Studio", "Carbon", "Retro", "Bakelite"],
    },
    Category {
        name: "Stationery",
        factors: [0.0, 0.0, 0.5, 0.1, 0.5, 0.3],
        price: 11.0,
        returns: 0.02,
        nouns: &["Notebook", "Fountain Pen", "Calendar", "Pencil Case", "Letter Set", "Desk Organiser", "Wax Seal"],
        materials: &["Brass", "Recycled Paper", "Linen", "Leather", "Walnut", "Marbled"],
    },
];

pub(super) const ADJECTIVES: [&str; 12] = [
    "Classic", "Little", "Everyday", "Nordic", "Vintage", "Grand", "Handmade", "Modern", "Folding", "Striped", "Quiet",
    "Artisan",
];

pub(super) const COLOURS: [&str; 9] =
    ["sage green", "ink blue", "oat", "terracotta", "black", "natural", "mustard", "dusty rose", "crème"];

/// What a description says of the factor that a product leans on beside its category's.
pub(super) const CHARACTERS: [[&str; 3]; N_FACTORS] = [
    ["made for rain, mud and long trails", "at home in any weather", "light enough for a day in the hills"],
    ["for slow Sundays by the stove", "a friend of good bread and better soup", "for cooks who taste as they go"],
    ["cut with a clean line that goes with everything", "the piece guests ask about", "elegant without shouting"],
    [
        "with clever details that engineers will love",
        "precise to the tenth of a millimetre",
        "smart, quick and reliable",
    ],
    ["fun for the whole family", "for curious hands from three to ninety-three", "with a wink in every corner"],
    ["soft, warm and calming", "for an evening with tea and no telephone", "made to slow the day down"],
];

/// How a description ends.
pub(super) const ENDINGS: [&str; 8] = [
    "Two-year guarantee.",
    "Made in small batches.",
    "Comes in a gift box.",
    "Made in Portugal.",
    "Packed without plastic.",
    "Spare parts for ten years.",
    "Easy to care for.",
    "Designed in Copenhagen.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shelf_has_more_names_than_products() {
        // At the largest scale a category holds 116 products; each needs a name of its own.
        for category in &CATEGORIES {
            assert!(ADJECTIVES.len() * category.materials.len() * category.nouns.len() > 200, "{}", category.name);
        }
    }
}
