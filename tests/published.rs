//! Published figures, from the very files they were measured on: whoever has the files sees the same to four digits.
//!
//! The files lie beside the project and may not be passed on, so not everybody has them; the options are the published
//! ones, and nothing was tuned here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use cohort::frame::Keys;
use cohort::models::{
    By, FitContext, Intake, Model, Options, PredictAsk, Taken, Value, algorithm, declared_options, evaluate_ranking,
    train,
};
use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array};
use datafusion::arrow::record_batch::RecordBatch;

/// Ferrari Dacrema et al., "A Troubling Analysis of Reproducibility and Progress in Recommender Systems Research", TOIS
/// 2021, additional material: SpectralCF's split of MovieLens 1M. (Its test set is skewed: it proves code, not quality.)
#[test]
fn movielens_as_spectral_cf_split_it() {
    let Some([train, test]) = files("ml-1m-spectralcf", ["train_users.dat", "test_users.dat"]) else { return };
    // A line holds a customer and all their products.
    let of_line = |line: &str| -> Vec<(i64, i64)> {
        let mut numbers = line.split_whitespace().map(|number| number.parse().unwrap());
        numbers.next().map(|user| numbers.map(|item| (user, item)).collect()).unwrap_or_default()
    };
    let [train, test] = [train, test].map(|file| file.lines().flat_map(of_line).collect::<Vec<_>>());

    let popular = measured("popularity", &[], &train, &test);
    agrees(&popular, &[("recall", 0.0382), ("map", 0.0065)]);
    let ease = measured("ease", &[("l2_reg", Value::Number(292.0))], &train, &test);
    agrees(&ease, &[("recall", 0.0956), ("map", 0.0212)]);
}

/// The files of Chen et al., "Efficient Neural Matrix Factorization without Sampling for Recommendation", TOIS 2020.
#[test]
fn amazon_with_fourteen_of_each() {
    let Some([train, test]) = files("amazon-14core-nbpo", ["train.txt", "test.txt"]) else { return };
    // A line holds a customer and a product, under a heading.
    let of_line = |line: &str| {
        let (user, item) = line.split_once('\t').unwrap();
        (user.parse().unwrap(), item.parse().unwrap())
    };
    let [train, test] = [train, test].map(|file| file.lines().skip(1).map(of_line).collect::<Vec<(i64, i64)>>());

    // Of products that as many had the lower number comes first; other orders give .0487 to .0489.
    agrees(&measured("popularity", &[], &train, &test), &[("ndcg", 0.0490)]);
    agrees(&measured("ease", &[("l2_reg", Value::Number(200.0))], &train, &test), &[("ndcg", 0.0820), ("f1", 0.0321)]);
    // iALS with 50 factors has .0816 of NDCG, and .0314 of F1 is the best of the paper. Ours were found by 40 trials on a
    // part of the training rows.
    let settings = [
        ("num_factors", Value::Whole(50)),
        ("max_iterations", Value::Whole(16)),
        ("wals_alpha", Value::Number(10.0)),
        ("l2_reg", Value::Number(72.64)),
        ("frequency_scaling", Value::Number(0.5)),
        ("seed", Value::Whole(1)),
    ];
    let found = measured("matrix_factorization", &settings, &train, &test);
    assert!(found["ndcg"] >= 0.0816 && found["f1"] >= 0.0315, "{found:?}");
}

/// The first of the five splits that come with MovieLens 100k. Each customer's mean: MyMediaLite's documentation; matrix
/// factorisation: Surprise's README, .934 and .737 on random splits, of which this one is the hardest.
#[test]
fn movielens_100k_as_ratings() {
    let Some(files) = files("ml-100k", ["u1.base", "u1.test"]) else { return };
    let of_line = |line: &str| -> (i64, i64, f64) {
        let numbers: Vec<i64> = line.split('\t').map(|number| number.parse().unwrap()).collect();
        (numbers[0], numbers[1], numbers[2] as f64)
    };
    let [train, test] = files.map(|file| {
        let rows: Vec<(i64, i64, f64)> = file.lines().map(of_line).collect();
        let pairs: Vec<(i64, i64)> = rows.iter().map(|(user, item, _)| (*user, *item)).collect();
        let [users, items] = columns(&pairs);
        let stars: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.2)));
        RecordBatch::try_from_iter([("customer", users), ("product", items), ("stars", stars)]).unwrap()
    });
    // The options are the usual ones but for the vectors' length.
    let settings = [("feedback_type", Value::Text("explicit".to_owned())), ("num_factors", Value::Whole(10))];
    let model = fitted("matrix_factorization", &settings, train);
    let values = model.evaluate(&test, &PredictAsk::default()).unwrap();
    let found: BTreeMap<&str, f64> = model.metrics().into_iter().zip(values.into_iter().flatten()).collect();
    let close = |metric: &str, published: f64| (found[metric] - published).abs() <= 1e-4;
    assert!(close("baseline_root_mean_squared_error", 1.0630), "{found:?}");
    assert!(close("baseline_mean_absolute_error", 0.8502), "{found:?}");
    assert!(found["root_mean_squared_error"] <= 0.95 && found["mean_absolute_error"] <= 0.75, "{found:?}");
}

/// The texts of two files, or a line that says that they are not here.
fn files(folder: &str, names: [&str; 2]) -> Option<[String; 2]> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(folder);
    if !folder.exists() {
        println!("skipped: {} is not here", folder.display());
        return None;
    }
    Some(names.map(|name| fs::read_to_string(folder.join(name)).unwrap()))
}

/// How well a model trained on some pairs ranks for others: every metric at 20.
fn measured(
    model_type: &str,
    given: &[(&str, Value)],
    learned: &[(i64, i64)],
    later: &[(i64, i64)],
) -> BTreeMap<String, f64> {
    let model = trained(model_type, given, learned);
    let [users, items] = columns(later);
    let ((users, user), (items, item)) = (Keys::of(&users).unwrap(), Keys::of(&items).unwrap());
    let mut pairs = user.into_iter().flatten().zip(item.into_iter().flatten());
    let taken = Taken { users: &users, items: &items, pairs: &mut pairs };
    let evaluation = evaluate_ranking(model.recommender().unwrap(), taken, 20, true, &By::Nothing, &|| true).unwrap();
    evaluation.lines().into_iter().map(|line| (line.metric, line.value)).collect()
}

fn trained(model_type: &str, given: &[(&str, Value)], pairs: &[(i64, i64)]) -> Arc<dyn Model> {
    let [users, items] = columns(pairs);
    fitted(model_type, given, RecordBatch::try_from_iter([("customer", users), ("product", items)]).unwrap())
}

/// Learned from all of these rows.
fn fitted(model_type: &str, given: &[(&str, Value)], rows: RecordBatch) -> Arc<dyn Model> {
    let algorithm = algorithm(model_type).unwrap();
    let given = given.iter().cloned().chain([("data_split_method", Value::Text("NO_SPLIT".to_owned()))]);
    let given = given.map(|(name, value)| (name.to_owned(), value)).collect();
    let options = Options::check(model_type, declared_options(algorithm), given).unwrap();
    let mut intake = Intake::new(algorithm, &rows.schema(), &options).unwrap();
    intake.push(rows).unwrap();
    let cx = FitContext { seed: 0, progress: &|_| true, notice: &|_| {}, reserve: &|_| Ok(()) };
    train(algorithm, intake, &options, None, &cx).unwrap().model
}

fn columns(pairs: &[(i64, i64)]) -> [ArrayRef; 2] {
    [
        Arc::new(Int64Array::from_iter_values(pairs.iter().map(|(user, _)| *user))),
        Arc::new(Int64Array::from_iter_values(pairs.iter().map(|(_, item)| *item))),
    ]
}

fn agrees(measured: &BTreeMap<String, f64>, published: &[(&str, f64)]) {
    for (metric, published) in published {
        let value = measured[*metric];
        assert!((value - published).abs() <= 1e-4, "{metric} is {value}, published {published}");
    }
}
