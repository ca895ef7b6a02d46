//! What every way to learn must do, asked of each in [`ALGORITHMS`]; and what each list must hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use cohort::error::{Kind, Result};
use cohort::frame::Artefact;
use cohort::functions::FUNCTIONS;
use cohort::models::{
    ALGORITHMS, Algorithm, Ask, FitContext, Intake, Model, Options, PredictAsk, Selection, Task, Trained, Value,
    declared_options, recommend, recommend_baskets, train,
};
use cohort::storage::{IfExists, NewModel, RoleId, Store};
use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::record_batch::RecordBatch;

/// Rows that there is something to learn from, and rows to be asked about: known ones, NULLs and things never seen.
struct Case {
    rows: RecordBatch,
    asked: RecordBatch,
    options: Vec<(&'static str, Value)>,
}

fn case(algorithm: &dyn Algorithm) -> Case {
    match algorithm.task() {
        Task::Classify => Case {
            rows: blobs(true),
            asked: blobs_asked(),
            options: vec![("input_label_cols", Value::Text("is_right".to_owned()))],
        },
        Task::Cluster => {
            Case { rows: blobs(false), asked: blobs_asked(), options: vec![("num_clusters", Value::Whole(2))] }
        }
        Task::Segment => Case { rows: customers(), asked: customers_asked(), options: vec![] },
        Task::Recommend => Case {
            rows: checkerboard(),
            asked: users_asked(),
            options: vec![
                ("num_factors", Value::Whole(8)),
                ("l2_reg", Value::Number(0.1)),
                ("max_iterations", Value::Whole(10)),
            ],
        },
    }
}

/// Two clouds of points, 0 and 10 in the middle, and a colour that mostly tells them apart.
fn blobs(labelled: bool) -> RecordBatch {
    let n = 200usize;
    let right = |i: usize| i % 2 == 1;
    let near = |i: usize, by: usize| if right(i) { 10.0 } else { 0.0 } + (i % by) as f64 * 0.5;
    let x: ArrayRef = Arc::new((0..n).map(|i| (i % 19 != 3).then(|| near(i, 7))).collect::<Float64Array>());
    let y: ArrayRef = Arc::new((0..n).map(|i| Some(near(i, 5))).collect::<Float64Array>());
    let colour =
        |i: usize| if i % 23 == 5 { None } else { Some(if right(i) != i.is_multiple_of(11) { "red" } else { "blue" }) };
    let colour: ArrayRef = Arc::new((0..n).map(colour).collect::<StringArray>());
    let mut columns = vec![("x", x), ("y", y), ("colour", colour)];
    if labelled {
        let label = (0..n).map(|i| (i % 29 != 7).then(|| right(i)));
        columns.push(("is_right", Arc::new(label.collect::<BooleanArray>())));
    }
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn blobs_asked() -> RecordBatch {
    let x: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.5), Some(10.5), None, Some(f64::NAN), Some(1e300)]));
    let y: ArrayRef =
        Arc::new(Float64Array::from(vec![Some(0.5), Some(10.5), None, Some(f64::INFINITY), Some(-1e300)]));
    let colour: ArrayRef =
        Arc::new(StringArray::from(vec![Some("red"), Some("blue"), None, Some("never seen"), Some("")]));
    RecordBatch::try_from_iter([("colour", colour), ("y", y), ("x", x)]).unwrap()
}

/// Even customers have even products, odd ones odd products, with holes.
fn checkerboard() -> RecordBatch {
    let cells = (0..60i64).flat_map(|user| (0..30i64).map(move |item| (user, item)));
    let cells: Vec<(i64, i64)> =
        cells.filter(|(user, item)| (user + item) % 2 == 0 && (user * 7 + item * 3) % 5 != 0).collect();
    let users: ArrayRef = Arc::new(Int64Array::from_iter_values(cells.iter().map(|(user, _)| *user)));
    let items: ArrayRef =
        Arc::new(StringArray::from_iter_values(cells.iter().map(|(_, item)| format!("product {item}"))));
    let ratings: ArrayRef =
        Arc::new(Float64Array::from_iter_values(cells.iter().map(|(user, item)| 1.0 + ((user + item) % 3) as f64)));
    let columns = [("customer", users), ("product", items), ("rating", ratings)];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn users_asked() -> RecordBatch {
    let users: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(1), None, Some(-1), Some(59), Some(i64::MAX)]));
    RecordBatch::try_from_iter([("customer", users)]).unwrap()
}

fn customers() -> RecordBatch {
    let number = |of: fn(usize) -> f64| Arc::new(Float64Array::from_iter_values((0..200).map(of))) as ArrayRef;
    RecordBatch::try_from_iter([
        ("recency", number(|i| (i * 37 % 200) as f64)),
        ("frequency", number(|i| (1 + i * 61 % 17) as f64)),
        ("monetary_value", number(|i| (i * 83 % 191) as f64 * 1.5)),
    ])
    .unwrap()
}

fn customers_asked() -> RecordBatch {
    let recency: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.0), Some(1e6), None, Some(50.0)]));
    let frequency: ArrayRef = Arc::new(Int64Array::from(vec![Some(17), Some(0), Some(3), None]));
    let money: ArrayRef = Arc::new(Float64Array::from(vec![Some(1e9), Some(-1.0), Some(10.0), Some(10.0)]));
    RecordBatch::try_from_iter([("recency", recency), ("frequency", frequency), ("monetary_value", money)]).unwrap()
}

fn options(algorithm: &'static dyn Algorithm, given: &[(&'static str, Value)]) -> Options {
    let declared = |name: &str| declared_options(algorithm).any(|option| option.name == name);
    let given =
        given.iter().filter(|(name, _)| declared(name)).map(|(name, value)| ((*name).to_owned(), value.clone()));
    let seed = ("seed".to_owned(), Value::Whole(7));
    Options::check(algorithm.name(), declared_options(algorithm), given.chain([seed]).collect()).unwrap()
}

fn trained(algorithm: &'static dyn Algorithm, rows: &RecordBatch, given: &[(&'static str, Value)]) -> Result<Trained> {
    trained_and_told(algorithm, rows, given, &|_| true, &|_| {})
}

fn trained_and_told(
    algorithm: &'static dyn Algorithm,
    rows: &RecordBatch,
    given: &[(&'static str, Value)],
    progress: cohort::kernels::Progress,
    notice: &(dyn Fn(String) + Sync),
) -> Result<Trained> {
    let options = options(algorithm, given);
    let mut intake = Intake::new(algorithm, &rows.schema(), &options)?;
    // In two pieces, as a query would give them.
    let half = rows.num_rows() / 2;
    intake.push(rows.slice(0, half))?;
    intake.push(rows.slice(half, rows.num_rows() - half))?;
    let cx = FitContext { seed: 7, progress, notice, reserve: &|_| Ok(()) };
    train(algorithm, intake, &options, None, &cx)
}

/// Everything that the model can be asked about these rows.
fn answers(model: &dyn Model, asked: &RecordBatch) -> String {
    if let Some(recommender) = model.recommender() {
        let ask = |exclude_seen, cold_start| Ask { k: 7, exclude_seen, cold_start, ..Ask::default() };
        let basket: ArrayRef = Arc::new(StringArray::from(vec!["product 2", "product 4", "never seen"]));
        let unknown: ArrayRef = Arc::new(StringArray::from(vec!["never seen"]));
        return format!(
            "{:?} {:?} {:?}",
            recommend(recommender, asked.column(0), None, &ask(true, true), &Selection::default()).unwrap(),
            recommend(recommender, asked.column(0), None, &ask(false, false), &Selection::default()).unwrap(),
            recommend_baskets(recommender, &[basket, unknown], &ask(true, true), &Selection::default()).unwrap(),
        );
    }
    let predicted = model.predict(asked, &PredictAsk::default()).unwrap();
    let (names, confidences) = model.segment(asked).unwrap();
    assert_eq!((predicted.num_rows(), names.len()), (asked.num_rows(), asked.num_rows()));
    format!("{predicted:?} {names:?} {confidences:?}")
}

#[test]
fn a_saved_model_answers_as_before() {
    for algorithm in ALGORITHMS {
        let Case { rows, asked, options } = case(*algorithm);
        let model = trained(*algorithm, &rows, &options).unwrap().model;
        let artefact = model.artefact().unwrap();

        // Through the disk, as after a restart.
        let data = tempfile::tempdir().unwrap();
        let new = NewModel {
            schema: "public".to_owned(),
            name: "m".to_owned(),
            owner: RoleId::FIRST,
            model_type: algorithm.name().to_owned(),
            facts: serde_json::json!({}),
        };
        let store = Store::open(data.path()).unwrap();
        let version = store.commit_model(new, &artefact, IfExists::Error).unwrap();
        drop(store);
        let read: Artefact = Store::open(data.path()).unwrap().read_artefact("public", "m", version).unwrap();
        assert_eq!(read, artefact, "{}", algorithm.name());

        let loaded = algorithm.load(&read).unwrap();
        assert_eq!(answers(&*loaded, &asked), answers(&*model, &asked), "{}", algorithm.name());
        assert_eq!(loaded.signature(), model.signature(), "{}", algorithm.name());
        assert_eq!(loaded.artefact().unwrap(), artefact, "{}", algorithm.name());
        assert_eq!(loaded.metrics(), model.metrics(), "{}", algorithm.name());
    }
}

#[test]
fn a_damaged_artefact_is_refused_not_believed() {
    for algorithm in ALGORITHMS {
        let Case { rows, options, .. } = case(*algorithm);
        let artefact = trained(*algorithm, &rows, &options).unwrap().model.artefact().unwrap();
        let refused = |artefact: Artefact, what: &str| {
            let error = algorithm.load(&artefact).err().unwrap_or_else(|| panic!("{}: {what}", algorithm.name()));
            assert_eq!(error.kind, Kind::Corrupt, "{}: {what}", algorithm.name());
        };
        for part in artefact.parts.keys() {
            let mut without = artefact.clone();
            without.parts.remove(part);
            refused(without, &format!("without part {part}"));
        }
        for key in artefact.manifest.as_object().unwrap().keys() {
            let mut without = artefact.clone();
            without.manifest.as_object_mut().unwrap().remove(key);
            refused(without, &format!("without value {key}"));
        }
    }
}

#[test]
fn no_rows_are_an_error_that_says_so() {
    for algorithm in ALGORITHMS {
        let Case { rows, options, .. } = case(*algorithm);
        let error = trained(*algorithm, &rows.slice(0, 0), &options).unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{}: {error}", algorithm.name());
        assert!(error.message.contains("no "), "{}: {error}", algorithm.name());
    }
}

#[test]
fn rows_of_nothing_but_nulls_teach_nothing_and_break_nothing() {
    for algorithm in ALGORITHMS {
        let Case { rows, asked, options } = case(*algorithm);
        let nulls = rows.columns().iter().map(|column| new_null_array(column.data_type(), 60)).collect();
        let Ok(nulls) = RecordBatch::try_new(nullable(&rows), nulls) else { panic!("{}", algorithm.name()) };
        // All NULL: an error or a model, never a panic.
        if let Err(error) = trained(*algorithm, &nulls, &options) {
            assert_ne!(error.kind, Kind::Internal, "{}: {error}", algorithm.name());
        }
        // Some NULL: the others are learned from.
        let some = RecordBatch::try_new(nulls.schema(), rows.columns().to_vec()).unwrap();
        let some = concat_batches(&nulls.schema(), [&nulls.slice(0, 5), &some]).unwrap();
        let model =
            trained(*algorithm, &some, &options).unwrap_or_else(|error| panic!("{}: {error}", algorithm.name())).model;
        answers(&*model, &asked);
    }
}

fn nullable(rows: &RecordBatch) -> datafusion::arrow::datatypes::SchemaRef {
    let schema = rows.schema();
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(datafusion::arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}

#[test]
fn a_cancelled_fit_is_cancelled() {
    for algorithm in ALGORITHMS {
        let Case { rows, options, .. } = case(*algorithm);
        let error = trained_and_told(*algorithm, &rows, &options, &|_| false, &|_| {}).unwrap_err();
        assert_eq!(error.kind, Kind::Cancelled, "{}: {error}", algorithm.name());
    }
}

#[test]
fn the_same_bits_on_one_thread_and_on_two() {
    for algorithm in ALGORITHMS {
        let Case { rows, asked, options } = case(*algorithm);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let Trained { model, evaluation, .. } = trained(*algorithm, &rows, &options).unwrap();
                (model.artefact().unwrap(), answers(&*model, &asked), format!("{evaluation:?}"))
            })
        };
        let (one, two) = (on(1), on(2));
        assert!(one == two, "{}", algorithm.name());
    }
}

#[test]
fn the_order_of_rows_does_not_matter() {
    for algorithm in ALGORITHMS {
        let Case { rows, options, .. } = case(*algorithm);
        let n = rows.num_rows() as u32;
        let backwards = take_record_batch(&rows, &UInt32Array::from_iter_values((0..n).rev())).unwrap();
        let [forth, back] = [&rows, &backwards].map(|rows| trained(*algorithm, rows, &options).unwrap());
        assert_eq!(forth.model.artefact().unwrap(), back.model.artefact().unwrap(), "{}", algorithm.name());
        assert_eq!(forth.evaluation, back.evaluation, "{}", algorithm.name());
    }
}

/// Every metric that stands next to a baseline of its own is at least as good, and one of them better, unless the
/// model is the baseline.
#[test]
fn every_model_beats_its_baseline() {
    for algorithm in ALGORITHMS {
        let name = algorithm.name();
        let Case { rows, options, .. } = case(*algorithm);
        let Trained { model, evaluation, n_eval_rows, .. } = trained(*algorithm, &rows, &options).unwrap();
        let evaluation = if n_eval_rows > 0 {
            evaluation
        } else {
            let values = model.evaluate(&rows, &PredictAsk::default()).unwrap();
            model.metrics().into_iter().map(str::to_owned).zip(values).collect()
        };
        let value = |wanted: &str| evaluation.iter().find(|(metric, _)| metric == wanted).and_then(|(_, value)| *value);
        let mut compared = 0;
        for (metric, baseline) in &evaluation {
            let Some(metric) = metric.strip_prefix("baseline_") else { continue };
            let (ours, baseline) = (value(metric).unwrap(), baseline.unwrap());
            let less_is_more = metric.contains("loss") || metric.contains("distance") || metric.contains("error");
            let (better, worse) = if less_is_more { (baseline, ours) } else { (ours, baseline) };
            match name {
                "popularity" => assert!(better >= worse, "{name}: {metric} {ours}, baseline {baseline}"),
                _ => assert!(better > worse, "{name}: {metric} {ours}, baseline {baseline}"),
            }
            compared += 1;
        }
        // A rule, such as the tiers of RFM, predicts nothing that a baseline could predict worse.
        assert!(compared > 0 || algorithm.task() == Task::Segment, "{name} has no baseline");
    }
}

/// What a training run tells the person who trains.
fn remarks(algorithm: &str, rows: &RecordBatch, given: &[(&'static str, Value)]) -> Vec<String> {
    let algorithm = *ALGORITHMS.iter().find(|known| known.name() == algorithm).unwrap();
    let heard = std::sync::Mutex::new(Vec::new());
    let notice = |remark: String| heard.lock().unwrap().push(remark);
    trained_and_told(algorithm, rows, given, &|_| true, &notice).unwrap();
    heard.into_inner().unwrap()
}

#[test]
fn training_says_what_it_leaves_out_and_what_looks_wrong() {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
    let spend: ArrayRef = Arc::new(Float64Array::from_iter_values((0..100).map(|i| f64::from(i % 7))));
    let rows =
        RecordBatch::try_from_iter([("customer_id", Arc::clone(&ids)), ("number", ids), ("paid", Arc::clone(&spend))]);
    let heard = remarks("kmeans", &rows.unwrap(), &[]);
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard[0].starts_with("column \"customer_id\" is called an id"), "{heard:?}");
    assert!(heard[1].starts_with("column \"number\" is another whole number in each row"), "{heard:?}");

    // A recommender is fitted twice, and says so in between.
    let heard = remarks("popularity", &checkerboard(), &[]);
    assert!(matches!(&heard[..], [only] if only.ends_with("fitting again on all rows")), "{heard:?}");

    // One row of a class cannot be both learned from and held out: whichever it would be, there is a model.
    for lone in 0..20 {
        let label: ArrayRef = Arc::new(BooleanArray::from_iter((0..100).map(|i| Some(i == lone))));
        let rows = RecordBatch::try_from_iter([("spend", Arc::clone(&spend)), ("label", label)]).unwrap();
        let heard = remarks("logistic_reg", &rows, &[]);
        assert!(heard.iter().all(|remark| remark.starts_with("too few rows to hold some out")), "{heard:?}");
    }
}

#[test]
fn a_column_that_is_missing_is_named() {
    for algorithm in ALGORITHMS.iter().filter(|algorithm| algorithm.task() != Task::Recommend) {
        let Case { rows, asked, options } = case(*algorithm);
        let model = trained(*algorithm, &rows, &options).unwrap().model;
        let missing = &model.signature().inputs[0].name;
        let others: Vec<usize> =
            (0..asked.num_columns()).filter(|at| asked.schema().field(*at).name() != missing).collect();
        let error = model.predict(&asked.project(&others).unwrap(), &PredictAsk::default()).unwrap_err();
        assert_eq!(error.kind, Kind::UnknownColumn, "{}", algorithm.name());
        assert!(error.message.contains(missing.as_str()), "{}: {error}", algorithm.name());
    }
}

#[test]
fn models_are_shared_by_threads() {
    fn shared<T: Send + Sync + ?Sized>() {}
    shared::<dyn Model>();
    shared::<dyn Algorithm>();
}

#[test]
fn every_algorithm_is_described() {
    let mut names = BTreeSet::new();
    for algorithm in ALGORITHMS {
        let name = algorithm.name();
        assert!(names.insert(name), "{name} is listed twice");
        assert_eq!(name, name.to_lowercase());
        assert!(algorithm.doc().ends_with('.') && algorithm.doc().len() > 40, "{name}");
        assert!(algorithm.example().contains(&format!("model_type = '{name}'")), "{name}");
        assert!(algorithm.example().starts_with("CREATE MODEL "), "{name}");

        let mut known = BTreeSet::new();
        for option in declared_options(*algorithm) {
            for word in [option.name].iter().chain(option.aliases) {
                assert!(known.insert(*word), "{name}: {word} is declared twice");
                assert_eq!(*word, word.to_lowercase(), "{name}");
            }
            assert!(option.doc.trim_end().ends_with('.'), "{name}: {} has no sentence", option.name);
            assert!(!option.range.to_string().is_empty(), "{name}: {}", option.name);
        }
        // Every default is a value that would be accepted.
        Options::check(name, declared_options(*algorithm), vec![]).unwrap();
    }
    assert!(ALGORITHMS.is_sorted_by_key(|algorithm| algorithm.name()), "the list is in alphabetical order");
}

#[test]
fn every_function_is_described() {
    let mut names = BTreeSet::new();
    for function in FUNCTIONS {
        let (name, doc) = (function.name(), function.doc());
        assert!(names.insert(name), "{name} is listed twice");
        assert!(doc.summary.ends_with('.'), "{name}");
        assert!(!doc.syntax.is_empty() && doc.syntax.iter().any(|syntax| syntax.contains(name)), "{name}");
        assert!(!doc.arguments.is_empty() && !doc.returns.is_empty(), "{name}");
        assert!(doc.example.contains(name), "{name}");
    }
    assert!(FUNCTIONS.is_sorted_by_key(|function| function.name()), "the list is in alphabetical order");
}
