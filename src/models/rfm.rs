//! `rfm`: recency, frequency and monetary value as scores, and the tiers that shops know by name.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Fields, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::frame::{Artefact, column, exact, measures};
use crate::kernels::{Step, rfm};
use crate::models::history::field;
use crate::models::{
    Algorithm, FitContext, Input, Learner, Model, Opt, Options, PredictAsk, Range, RowLearner, Signature, Task,
};

pub struct Rfm;

/// Where one score ends and the next begins, for each of the three columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RfmModel {
    bins: u32,
    #[serde(with = "exact::list")]
    recency: Vec<f64>,
    #[serde(with = "exact::list")]
    frequency: Vec<f64>,
    #[serde(with = "exact::list")]
    monetary_value: Vec<f64>,
    /// Training rows in each tier, in the order of [`rfm::TIERS`].
    sizes: Vec<usize>,
    n_rows: usize,
    #[serde(skip, default = "signature")]
    signature: Signature,
}

const COLUMNS: [&str; 3] = ["recency", "frequency", "monetary_value"];

/// Scores of one customer: recency (recent is high), frequency, monetary value.
type Scores = [u32; 3];

impl Algorithm for Rfm {
    fn name(&self) -> &'static str {
        "rfm"
    }

    fn doc(&self) -> &'static str {
        "Scores customers from 1 to `bins` by how recently, how often and for how much they bought, and names the \
         tiers (Champions, At Risk, Hibernating, …). It keeps the borders between scores, so that next month's \
         customers are measured with the same rule. Trained on the columns recency, frequency and monetary_value, \
         which the function rfm() gives."
    }

    fn example(&self) -> &'static str {
        "CREATE MODEL tiers OPTIONS (model_type = 'rfm') AS\n\
         SELECT * FROM rfm((SELECT customer_id, order_ts, amount FROM orders))"
    }

    fn task(&self) -> Task {
        Task::Segment
    }

    fn options(&self) -> &'static [Opt] {
        &[Opt {
            name: "bins",
            aliases: &[],
            range: Range::Whole { min: 2, max: 100 },
            default: Some("5"),
            doc: "How many scores a column is cut into, by quantiles.",
        }]
    }

    fn learner(&self) -> Learner {
        Learner::Rows(&Self)
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        let model: RfmModel = artefact.value("rfm")?;
        Ok(Arc::new(model))
    }
}

impl RowLearner for Rfm {
    fn accept(&self, _cx: &FitContext, rows: &RecordBatch, _options: &Options) -> Result<RecordBatch> {
        for (name, values) in COLUMNS.iter().zip(values(rows)?) {
            known(name, &values)?;
        }
        Ok(rows.clone())
    }

    fn fit(&self, cx: &FitContext, rows: &RecordBatch, options: &Options) -> Result<Arc<dyn Model>> {
        let [recency, frequency, monetary_value] = values(rows)?;
        let bins = options.whole("bins")?;
        let edges = |name: &str, values: &[Option<f64>]| Ok::<_, Error>(rfm::edges(&known(name, values)?, bins));
        let mut model = RfmModel {
            bins: bins as u32,
            recency: edges("recency", &recency)?,
            frequency: edges("frequency", &frequency)?,
            monetary_value: edges("monetary_value", &monetary_value)?,
            sizes: vec![0; rfm::TIERS.len()],
            n_rows: rows.num_rows(),
            signature: signature(),
        };
        for scores in model.scores(rows)?.into_iter().flatten() {
            let tier = model.tier(scores);
            model.sizes[tier] += 1;
        }
        if !(cx.progress)(Step { done: 1, total: 1, loss: None }) {
            return Err(Error::cancelled());
        }
        Ok(Arc::new(model))
    }
}

fn signature() -> Signature {
    let input = |name: &&str| Input {
        name: (*name).to_owned(),
        data_type: "double precision".to_owned(),
        role: "number".to_owned(),
    };
    Signature {
        inputs: COLUMNS.iter().map(input).collect(),
        label: None,
        outputs: Fields::from(vec![
            field("r_score", DataType::Int64),
            field("f_score", DataType::Int64),
            field("m_score", DataType::Int64),
            field("rfm_score", DataType::Utf8),
        ]),
    }
}

/// The three columns of a query, found by name.
fn values(rows: &RecordBatch) -> Result<[Vec<Option<f64>>; 3]> {
    let schema = rows.schema();
    let find = |name: &str| {
        let at = column(&schema, name).map_err(|error| {
            error.hint("an rfm model wants recency, frequency and monetary_value: SELECT * FROM rfm((SELECT customer_id, order_ts, amount FROM orders))")
        })?;
        measures(rows.column(at), name)
    };
    Ok([find(COLUMNS[0])?, find(COLUMNS[1])?, find(COLUMNS[2])?])
}

/// The values that borders can be drawn between: not NULL, all finite, at least one.
fn known(name: &str, values: &[Option<f64>]) -> Result<Vec<f64>> {
    let known: Vec<f64> = values.iter().copied().flatten().collect();
    match known.iter().find(|value| !value.is_finite()) {
        Some(odd) => Err(Error::invalid(format!("column \"{name}\" holds {odd}, which is not a number to learn from"))
            .hint(format!("filter such rows out: WHERE {name} < 'Infinity'"))),
        None if known.is_empty() => Err(Error::invalid(format!("column \"{name}\" has no values to learn from"))
            .hint("run the SELECT alone and look at its rows")),
        None => Ok(known),
    }
}

impl RfmModel {
    /// `None` where one of the three is NULL.
    fn scores(&self, rows: &RecordBatch) -> Result<Vec<Option<Scores>>> {
        let [recency, frequency, monetary_value] = values(rows)?;
        let score = |row: usize| {
            // A small recency is a good one.
            let recency = self.bins + 1 - rfm::score(recency[row]?, &self.recency);
            let frequency = rfm::score(frequency[row]?, &self.frequency);
            let monetary_value = rfm::score(monetary_value[row]?, &self.monetary_value);
            Some([recency, frequency, monetary_value])
        };
        Ok((0..rows.num_rows()).map(score).collect())
    }

    fn tier(&self, [recency, frequency, monetary_value]: Scores) -> usize {
        rfm::tier(recency, rfm::combined(frequency, monetary_value), self.bins as usize)
    }
}

impl Model for RfmModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn artefact(&self) -> Result<Artefact> {
        Ok(Artefact::new(serde_json::json!({ "rfm": self })))
    }

    fn predict(&self, rows: &RecordBatch, _ask: &PredictAsk) -> Result<RecordBatch> {
        let scores = self.scores(rows)?;
        let one = |at: usize| -> ArrayRef {
            Arc::new(scores.iter().map(|scores| scores.map(|scores| i64::from(scores[at]))).collect::<Int64Array>())
        };
        let text = scores.iter().map(|scores| scores.map(|scores| join(scores, self.bins)));
        let columns = vec![one(0), one(1), one(2), Arc::new(text.collect::<StringArray>()) as ArrayRef];
        Ok(RecordBatch::try_new(Arc::new(Schema::new(self.signature.outputs.clone())), columns)?)
    }

    /// A rule is always sure: the confidence is 1, and NULL where a column is NULL.
    fn segment(&self, rows: &RecordBatch) -> Result<(StringArray, Float64Array)> {
        let scores = self.scores(rows)?;
        let names = scores.iter().map(|scores| scores.map(|scores| rfm::TIERS[self.tier(scores)]));
        Ok((names.collect(), scores.iter().map(|scores| scores.map(|_| 1.0)).collect()))
    }

    fn metrics(&self) -> Vec<&'static str> {
        vec!["population_stability_index", "n_rows"]
    }

    /// How far the tiers of these rows have moved from those of training: Σ (pᵢ − qᵢ) ln(pᵢ / qᵢ) over tiers;
    /// under 0.1 is stable, over 0.25 is a shift.
    fn evaluate(&self, rows: &RecordBatch, _ask: &PredictAsk) -> Result<Vec<Option<f64>>> {
        let mut sizes = vec![0usize; rfm::TIERS.len()];
        for scores in self.scores(rows)?.into_iter().flatten() {
            sizes[self.tier(scores)] += 1;
        }
        let n: usize = sizes.iter().sum();
        if n == 0 {
            return Err(Error::invalid("the query gives no rows to evaluate on"));
        }
        // One half row in each tier keeps an empty one from becoming an infinite shift.
        let share = |size: usize, n: usize| (size as f64 + 0.5) / (n as f64 + 0.5 * sizes.len() as f64);
        let trained: usize = self.sizes.iter().sum();
        let shift = sizes.iter().zip(&self.sizes).map(|(now, then)| {
            let (p, q) = (share(*now, n), share(*then, trained));
            (p - q) * (p / q).ln()
        });
        Ok(vec![Some(shift.sum()), Some(n as f64)])
    }
}

/// `545`; with more than nine bins the scores would run together, so they get dashes: `10-3-7`.
fn join([recency, frequency, monetary_value]: Scores, bins: u32) -> String {
    let dash = if bins > 9 { "-" } else { "" };
    format!("{recency}{dash}{frequency}{dash}{monetary_value}")
}
