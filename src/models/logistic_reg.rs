//! `logistic_reg`: which class a row belongs to, and how likely.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, StringArray};
use datafusion::arrow::compute::{cast, filter_record_batch, sort, take};
use datafusion::arrow::datatypes::{DataType, Fields, Float64Type, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use ndarray::{Array2, Axis};

use crate::error::{Error, Kind, Result};
use crate::frame::{Artefact, Features, Keys, column, comparable, matrix_rows, rows_matrix, sql_name};
use crate::kernels::{logistic, metrics};
use crate::models::history::field;
use crate::models::train::{LABEL_COLS, feature_names, inputs, warn_of_ids};
use crate::models::{
    Algorithm, FitContext, Input, Learner, Model, Opt, Options, PredictAsk, Range, RowLearner, Signature, Task,
};

pub struct LogisticReg;

#[derive(Debug)]
struct LogisticRegModel {
    features: Features,
    label: String,
    /// The label's values, ascending; with two, the second is the positive one.
    classes: Keys,
    weights: logistic::Weights,
    /// Share of each class among the training rows: the baseline's prediction.
    shares: Vec<f64>,
    signature: Signature,
}

impl Algorithm for LogisticReg {
    fn name(&self) -> &'static str {
        "logistic_reg"
    }

    fn doc(&self) -> &'static str {
        "Predicts a class and its probability: logistic regression with an L2 penalty, fitted by L-BFGS on \
         standardised features; categories are 0 or 1 and not standardised. Two classes or many. Of two, the positive one is true, 1, or the last in order."
    }

    fn example(&self) -> &'static str {
        "CREATE MODEL fraud OPTIONS (model_type = 'logistic_reg', input_label_cols = 'is_fraud', l2_reg = hparam_candidates(ARRAY[0.1, 1, 10]), seed = 1) AS\n\
         SELECT is_fraud, method, amount, date_part('hour', paid_ts) AS hour FROM payments"
    }

    fn task(&self) -> Task {
        Task::Classify
    }

    fn options(&self) -> &'static [Opt] {
        &[
            LABEL_COLS,
            Opt {
                name: "l2_reg",
                aliases: &["regularization"],
                range: Range::Number { min: 0.0, max: 1e9 },
                default: Some("1"),
                doc: "The penalty on large weights; the intercept goes free. 1 is scikit-learn's C = 1.",
            },
            Opt {
                name: "max_iterations",
                aliases: &["max_iter"],
                range: Range::Whole { min: 1, max: 100_000 },
                default: Some("100"),
                doc: "Steps of the solver at most.",
            },
            Opt {
                name: "min_rel_progress",
                aliases: &["tol", "tolerance"],
                range: Range::Number { min: 1e-12, max: 1.0 },
                default: Some("0.0001"),
                doc: "Stops when the gradient is shorter than this.",
            },
            Opt {
                name: "id_col",
                aliases: &[],
                range: Range::Texts,
                default: None,
                doc: "Columns of the query that name the row and are not learned from.",
            },
        ]
    }

    fn learner(&self) -> Learner {
        Learner::Rows(&Self)
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        let coefficients = rows_matrix::<Float64Type>(artefact.part("coefficients")?)?;
        let intercepts = rows_matrix::<Float64Type>(artefact.part("intercepts")?)?;
        Ok(Arc::new(LogisticRegModel::new(
            artefact.value("features")?,
            artefact.value("inputs")?,
            artefact.value("label")?,
            Keys::stored(artefact.part("classes")?.column(0))?,
            logistic::Weights { coefficients, intercepts: intercepts.flatten().to_owned() },
            artefact.value("shares")?,
        )))
    }
}

impl RowLearner for LogisticReg {
    fn accept(&self, cx: &FitContext, rows: &RecordBatch, options: &Options) -> Result<RecordBatch> {
        let (label, known) = labelled(rows, options)?;
        classes(&label, known.column(column(&known.schema(), &label)?))?;
        let names = feature_names(&known, options, Some(&label))?;
        Features::fit(&known, &names)?;
        warn_of_ids(cx, &known, &names)?;
        let n_skipped = rows.num_rows() - known.num_rows();
        if n_skipped > 0 {
            (cx.notice)(format!("skipped {n_skipped} of {} rows, whose label is NULL", rows.num_rows()));
        }
        Ok(known)
    }

    fn fit(&self, cx: &FitContext, rows: &RecordBatch, options: &Options) -> Result<Arc<dyn Model>> {
        let (label, rows) = labelled(rows, options)?;
        let labels = rows.column(column(&rows.schema(), &label)?);
        let classes = classes(&label, labels)?;
        let y: Vec<u32> = classes.codes(labels)?.into_iter().map(Option::unwrap_or_default).collect();
        let features = Features::fit(&rows, &feature_names(&rows, options, Some(&label))?)?;
        let x = features.matrix(&rows)?;
        if classes.len() == 2 {
            warn_of_leakage(cx, &features.columns(), &x, &y);
        }
        let settings = logistic::Options {
            l2: options.number("l2_reg")?,
            max_iterations: options.whole("max_iterations")? as u64,
            tolerance: options.number("min_rel_progress")?,
        };
        let weights = logistic::fit(x.view(), &y, classes.len(), &settings, cx.progress)?;
        let share = |class: usize| y.iter().filter(|label| **label as usize == class).count() as f64 / y.len() as f64;
        let shares = (0..classes.len()).map(share).collect();
        let inputs = inputs(&rows.schema(), &features)?;
        Ok(Arc::new(LogisticRegModel::new(features, inputs, label, classes, weights, shares)))
    }
}

/// The label's name and the rows that have one.
fn labelled(rows: &RecordBatch, options: &Options) -> Result<(String, RecordBatch)> {
    let named = match options.texts("input_label_cols") {
        Some([one]) => one.clone(),
        Some(many) => {
            return Err(Error::unsupported(format!("{} label columns", many.len())).hint("train one model a label"));
        }
        None => "label".to_owned(),
    };
    let schema = rows.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let at = column(&schema, &named).map_err(|_| Error::label_missing(&named, &names))?;
    let labels = rows.column(at);
    if labels.len() == labels.logical_null_count() {
        return Err(match rows.num_rows() {
            0 => {
                Error::invalid("the query gives no rows to train on").hint("run the SELECT alone and look at its rows")
            }
            n => Error::invalid(format!("the label \"{named}\" is NULL in all {n} rows"))
                .hint("the model learns from rows whose label is known"),
        });
    }
    if labels.logical_null_count() == 0 {
        return Ok((schema.field(at).name().clone(), rows.clone()));
    }
    let known = BooleanArray::from_iter((0..labels.len()).map(|row| Some(labels.is_valid(row))));
    Ok((schema.field(at).name().clone(), filter_record_batch(rows, &known)?))
}

/// The distinct labels, ascending.
fn classes(name: &str, labels: &ArrayRef) -> Result<Keys> {
    let (found, _) = Keys::of(labels).map_err(|_| {
        Error::new(
            Kind::WrongType,
            format!("the label \"{name}\" of type {} is not a class", sql_name(labels.data_type())),
        )
        .hint("a label is a boolean, a whole number or a text")
    })?;
    if found.len() < 2 {
        let only = datafusion::arrow::util::display::array_value_to_string(found.values(), 0).unwrap_or_default();
        return Err(Error::invalid(format!(
            "the label \"{name}\" has only one class, {only}: there is nothing to tell apart"
        ))
        .hint("give rows of at least two classes"));
    }
    const MAX_CLASSES: usize = 1_000;
    if found.len() > MAX_CLASSES {
        return Err(Error::invalid(format!(
            "the label \"{name}\" has {} classes, more than {MAX_CLASSES}",
            found.len()
        ))
        .hint("is it a number to be estimated rather than a class?"));
    }
    Keys::stored(&sort(found.values(), None)?)
}

/// One column that alone tells the classes apart is more often a mistake than a finding.
fn warn_of_leakage(cx: &FitContext, columns: &[String], x: &Array2<f64>, y: &[u32]) {
    let positive: Vec<bool> = y.iter().map(|class| *class == 1).collect();
    for (column, values) in columns.iter().zip(x.columns()) {
        let Some(auc) = metrics::roc_auc(&positive, &values.to_vec()) else { continue };
        let auc = auc.max(1.0 - auc);
        if auc > 0.99 {
            (cx.notice)(format!(
                "column \"{column}\" alone tells the classes apart (ROC AUC {auc:.4}): does it leak the label?"
            ));
        }
    }
}

impl LogisticRegModel {
    fn new(
        features: Features,
        inputs: Vec<Input>,
        label: String,
        classes: Keys,
        weights: logistic::Weights,
        shares: Vec<f64>,
    ) -> Self {
        let outputs = Fields::from(vec![
            field(&format!("predicted_{label}"), classes.data_type().clone()),
            field(&format!("predicted_{label}_prob"), DataType::Float64),
        ]);
        let signature = Signature { inputs, label: Some(label.clone()), outputs };
        Self { features, label, classes, weights, shares, signature }
    }

    fn is_binary(&self) -> bool {
        self.classes.len() == 2
    }

    /// Whether the two classes are false/true or 0/1, so that "the probability" means that of true.
    fn is_yes_or_no(&self) -> bool {
        let truth = match self.classes.data_type() {
            DataType::Boolean => true,
            DataType::Int64 => cast(self.classes.values(), &DataType::Utf8)
                .is_ok_and(|values| values.as_string::<i32>().iter().eq([Some("0"), Some("1")])),
            _ => false,
        };
        self.is_binary() && truth
    }

    /// The predicted class of each row, from its probabilities.
    fn decide(&self, probabilities: &Array2<f64>, ask: &PredictAsk) -> Result<Vec<u32>> {
        match ask.threshold {
            Some(_) if !self.is_binary() => {
                Err(Error::invalid(format!("a threshold needs two classes, and this model has {}", self.classes.len()))
                    .hint("leave the threshold out: the most likely class is predicted"))
            }
            Some(threshold) if !(0.0..=1.0).contains(&threshold) => {
                Err(Error::invalid(format!("threshold must be from 0 to 1, not {threshold}")))
            }
            threshold if self.is_binary() => {
                let threshold = threshold.unwrap_or(0.5);
                Ok(probabilities.column(1).iter().map(|p| u32::from(*p >= threshold)).collect())
            }
            _ => Ok(probabilities
                .outer_iter()
                .map(|row| {
                    let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
                    best.map_or(0, |(class, _)| class as u32)
                })
                .collect()),
        }
    }
}

impl Model for LogisticRegModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn artefact(&self) -> Result<Artefact> {
        let manifest = serde_json::json!({
            "features": self.features,
            "inputs": self.signature.inputs,
            "label": self.label,
            "shares": self.shares,
        });
        let classes = RecordBatch::try_from_iter([("class", Arc::clone(self.classes.values()))])?;
        let intercepts = self.weights.intercepts.view().insert_axis(Axis(1)).to_owned();
        Ok(Artefact::new(manifest)
            .with_part("classes", classes)
            .with_part("coefficients", matrix_rows::<Float64Type>("coefficients", &self.weights.coefficients)?)
            .with_part("intercepts", matrix_rows::<Float64Type>("intercept", &intercepts)?))
    }

    fn predict(&self, rows: &RecordBatch, ask: &PredictAsk) -> Result<RecordBatch> {
        let probabilities = logistic::probabilities(&self.weights, self.features.matrix(rows)?.view());
        let decided = self.decide(&probabilities, ask)?;
        let yes_or_no = self.is_yes_or_no();
        let probability =
            |(row, class): (usize, &u32)| probabilities[[row, if yes_or_no { 1 } else { *class as usize }]];
        let columns: Vec<ArrayRef> = vec![
            self.classes.take(&decided)?,
            Arc::new(Float64Array::from_iter_values(decided.iter().enumerate().map(probability))),
        ];
        Ok(RecordBatch::try_new(Arc::new(Schema::new(self.signature.outputs.clone())), columns)?)
    }

    /// The predicted class as a segment; its probability as the confidence.
    fn segment(&self, rows: &RecordBatch) -> Result<(StringArray, Float64Array)> {
        let probabilities = logistic::probabilities(&self.weights, self.features.matrix(rows)?.view());
        let decided = self.decide(&probabilities, &PredictAsk::default())?;
        let names = cast(&self.classes.take(&decided)?, &DataType::Utf8)?;
        let confidences = decided.iter().enumerate().map(|(row, class)| probabilities[[row, *class as usize]]);
        Ok((names.as_string::<i32>().clone(), Float64Array::from_iter_values(confidences)))
    }

    fn metrics(&self) -> Vec<&'static str> {
        vec![
            "precision",
            "recall",
            "accuracy",
            "f1_score",
            "log_loss",
            "roc_auc",
            "pr_auc",
            "baseline_accuracy",
            "baseline_log_loss",
            "n_rows",
        ]
    }

    fn evaluate(&self, rows: &RecordBatch, ask: &PredictAsk) -> Result<Vec<Option<f64>>> {
        let at = column(&rows.schema(), &self.label)?;
        let (wanted, given) = (self.classes.data_type(), rows.column(at).data_type());
        if !comparable(wanted, given) {
            let (label, wanted, given) = (&self.label, sql_name(wanted), sql_name(given));
            return Err(Error::new(
                Kind::WrongType,
                format!("the label \"{label}\" was {wanted} in training, not {given}"),
            )
            .hint(format!("cast it: {label}::{wanted}")));
        }
        let codes = self.classes.codes(rows.column(at))?;
        let known = BooleanArray::from_iter(codes.iter().map(|code| Some(code.is_some())));
        let rows = filter_record_batch(rows, &known)?;
        let y: Vec<u32> = codes.into_iter().flatten().collect();
        if y.is_empty() {
            return Err(Error::invalid(format!("no row has a label \"{}\" that the model knows", self.label)));
        }
        let probabilities = logistic::probabilities(&self.weights, self.features.matrix(&rows)?.view());
        let decided = self.decide(&probabilities, ask)?;
        let n = y.len() as f64;
        let majority = (0..self.shares.len()).max_by(|a, b| self.shares[*a].total_cmp(&self.shares[*b])).unwrap_or(0);
        let baseline_accuracy = y.iter().filter(|class| **class as usize == majority).count() as f64 / n;
        let always = Array2::from_shape_fn((y.len(), self.shares.len()), |(_, class)| self.shares[class]);
        let baseline_log_loss = metrics::multinomial_log_loss(&y, always.view());
        let counts = metrics::Confusion::of(&y, &decided, self.classes.len());
        let ([precision, recall, f1_score], roc_auc, pr_auc) = if self.is_binary() {
            let positive: Vec<bool> = y.iter().map(|class| *class == 1).collect();
            let p = probabilities.column(1).to_vec();
            let of_positive = [counts.precision(1), counts.recall(1), counts.f1(1)];
            (of_positive, metrics::roc_auc(&positive, &p), metrics::pr_auc(&positive, &p))
        } else {
            ([counts.macro_precision(), counts.macro_recall(), counts.macro_f1()], None, None)
        };
        Ok(vec![
            Some(precision),
            Some(recall),
            Some(counts.accuracy()),
            Some(f1_score),
            Some(metrics::multinomial_log_loss(&y, probabilities.view())),
            roc_auc,
            pr_auc,
            Some(baseline_accuracy),
            Some(baseline_log_loss),
            Some(n),
        ])
    }

    fn table(&self, name: &str) -> Result<RecordBatch> {
        if name != "weights" {
            return Err(Error::unsupported(format!("a logistic_reg model has no {name}")).hint("see weights('…')"));
        }
        let columns = self.features.columns();
        // Of two classes only the positive one has weights: those of the other are their negative.
        let first = if self.is_binary() { 1 } else { 0 };
        let (mut classes, mut names, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (row, intercept) in self.weights.intercepts.iter().enumerate() {
            let of_class = self.weights.coefficients.row(row);
            let named = columns.iter().map(String::as_str).zip(of_class.iter().copied());
            for (name, weight) in named.chain([("__INTERCEPT__", *intercept)]) {
                classes.push((row + first) as u32);
                names.push(name.to_owned());
                weights.push(weight);
            }
        }
        let classes = take(self.classes.values(), &datafusion::arrow::array::UInt32Array::from(classes), None)?;
        let table: [(&str, ArrayRef); 3] = [
            ("class", classes),
            ("processed_input", Arc::new(StringArray::from(names))),
            ("weight", Arc::new(Float64Array::from(weights))),
        ];
        Ok(RecordBatch::try_from_iter(table)?)
    }
}
