//! `kmeans`: customers in groups of their like.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use datafusion::arrow::datatypes::{DataType, Fields, Float64Type, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use ndarray::{Array2, Axis};

use crate::error::{Error, Result};
use crate::frame::{Artefact, Features, matrix_rows, rows_matrix};
use crate::kernels::{kmeans, metrics};
use crate::models::history::field;
use crate::models::train::{feature_names, inputs, warn_of_ids};
use crate::models::{
    Algorithm, FitContext, Input, Learner, Model, Opt, Options, PredictAsk, Range, RowLearner, Signature, Task,
};

pub struct KMeans;

#[derive(Debug)]
struct KMeansModel {
    features: Features,
    /// clusters × matrix columns, standardised.
    centroids: Array2<f64>,
    sizes: Vec<usize>,
    names: Vec<String>,
    signature: Signature,
}

impl Algorithm for KMeans {
    fn name(&self) -> &'static str {
        "kmeans"
    }

    fn doc(&self) -> &'static str {
        "Puts rows into groups so that each is as near as possible to the middle of its group: Lloyd's algorithm from \
         a k-means++ start (Arthur & Vassilvitskii 2007), the best of several. Clusters are numbered from 1 by falling \
         size. Skewed columns such as spend are best taken as ln(1 + x)."
    }

    fn example(&self) -> &'static str {
        "CREATE MODEL groups OPTIONS (model_type = 'kmeans', num_clusters = 5, id_col = 'customer_id', seed = 1) AS\n\
         SELECT customer_id, ln(1 + recency) AS recency, ln(frequency) AS frequency, ln(monetary_value) AS spend\n\
         FROM rfm((SELECT customer_id, order_ts, amount FROM orders))"
    }

    fn task(&self) -> Task {
        Task::Cluster
    }

    fn options(&self) -> &'static [Opt] {
        &[
            Opt {
                name: "num_clusters",
                aliases: &["k", "n_clusters"],
                range: Range::Whole { min: 1, max: 10_000 },
                default: Some("5"),
                doc: "How many groups.",
            },
            Opt {
                name: "max_iterations",
                aliases: &["max_iter"],
                range: Range::Whole { min: 1, max: 10_000 },
                default: Some("100"),
                doc: "Rounds at most.",
            },
            Opt {
                name: "n_init",
                aliases: &[],
                range: Range::Whole { min: 1, max: 100 },
                default: Some("4"),
                doc: "Starts, of which the best is kept.",
            },
            Opt {
                name: "min_rel_progress",
                aliases: &["tol", "tolerance"],
                range: Range::Number { min: 0.0, max: 1.0 },
                default: Some("0.0001"),
                doc: "Stops when the centroids move less than this, relative to the data's variance.",
            },
            Opt {
                name: "id_col",
                aliases: &[],
                range: Range::Texts,
                default: None,
                doc: "Columns of the query that name the row and are not learned from.",
            },
            Opt {
                name: "segment_names",
                aliases: &[],
                range: Range::Texts,
                default: None,
                doc: "Names of the segments, largest first, for segment(); without them their number.",
            },
        ]
    }

    fn learner(&self) -> Learner {
        Learner::Rows(&Self)
    }

    fn load(&self, artefact: &Artefact) -> Result<Arc<dyn Model>> {
        let centroids = rows_matrix::<Float64Type>(artefact.part("centroids")?)?;
        Ok(Arc::new(KMeansModel::new(
            artefact.value("features")?,
            artefact.value("inputs")?,
            centroids,
            artefact.value("sizes")?,
            artefact.value("names")?,
        )))
    }
}

impl RowLearner for KMeans {
    fn accept(&self, cx: &FitContext, rows: &RecordBatch, options: &Options) -> Result<RecordBatch> {
        let names = feature_names(rows, options, None)?;
        Features::fit(rows, &names)?;
        warn_of_ids(cx, rows, &names)?;
        Ok(rows.clone())
    }

    fn fit(&self, cx: &FitContext, rows: &RecordBatch, options: &Options) -> Result<Arc<dyn Model>> {
        let clusters = options.whole("num_clusters")?;
        let names = options.texts("segment_names").unwrap_or_default().to_vec();
        if !names.is_empty() && names.len() != clusters {
            return Err(Error::invalid(format!("{} segment names for {clusters} clusters", names.len()))
                .hint("give one name a cluster, the largest first"));
        }
        let features = Features::fit(rows, &feature_names(rows, options, None)?)?;
        let matrix = features.matrix(rows)?;
        let settings = kmeans::Options {
            clusters,
            max_iterations: options.whole("max_iterations")?,
            tolerance: options.number("min_rel_progress")?,
            n_init: options.whole("n_init")?,
        };
        let found = kmeans::fit(matrix.view(), &settings, cx.seed, cx.progress)?;
        let mut sizes = vec![0; clusters];
        for label in &found.labels {
            sizes[*label as usize] += 1;
        }
        let inputs = inputs(&rows.schema(), &features)?;
        Ok(Arc::new(KMeansModel::new(features, inputs, found.centroids, sizes, names)))
    }
}

impl KMeansModel {
    fn new(
        features: Features,
        inputs: Vec<Input>,
        centroids: Array2<f64>,
        sizes: Vec<usize>,
        names: Vec<String>,
    ) -> Self {
        let outputs =
            Fields::from(vec![field("centroid_id", DataType::Int64), field("centroid_distance", DataType::Float64)]);
        let signature = Signature { inputs, label: None, outputs };
        Self { features, centroids, sizes, names, signature }
    }

    fn name(&self, cluster: usize) -> String {
        self.names.get(cluster).cloned().unwrap_or_else(|| (cluster + 1).to_string())
    }
}

impl Model for KMeansModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn artefact(&self) -> Result<Artefact> {
        let manifest = serde_json::json!({
            "features": self.features,
            "inputs": self.signature.inputs,
            "sizes": self.sizes,
            "names": self.names,
        });
        let centroids = matrix_rows::<Float64Type>("centroid", &self.centroids)?;
        Ok(Artefact::new(manifest).with_part("centroids", centroids))
    }

    fn predict(&self, rows: &RecordBatch, _ask: &PredictAsk) -> Result<RecordBatch> {
        let matrix = self.features.matrix(rows)?;
        let (labels, squared) = kmeans::assign(matrix.view(), self.centroids.view());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(labels.iter().map(|label| i64::from(*label) + 1))),
            Arc::new(Float64Array::from_iter_values(squared.iter().map(|squared| squared.sqrt()))),
        ];
        Ok(RecordBatch::try_new(Arc::new(Schema::new(self.signature.outputs.clone())), columns)?)
    }

    /// Confidence is 1 − d₁/d₂ of the nearest and the second nearest centroid: 1 in the middle of a cluster, 0 on a border.
    fn segment(&self, rows: &RecordBatch) -> Result<(StringArray, Float64Array)> {
        let matrix = self.features.matrix(rows)?;
        let mut confidences = Vec::with_capacity(matrix.nrows());
        let mut names = Vec::with_capacity(matrix.nrows());
        for row in matrix.outer_iter() {
            let mut nearest: [(f64, usize); 2] = [(f64::INFINITY, 0); 2];
            for (cluster, centroid) in self.centroids.outer_iter().enumerate() {
                let distance = row.iter().zip(centroid).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                if distance < nearest[0].0 {
                    nearest = [(distance, cluster), nearest[0]];
                } else if distance < nearest[1].0 {
                    nearest[1] = (distance, cluster);
                }
            }
            let [(first, cluster), (second, _)] = nearest;
            // Of a row so far off that both distances overflow nothing is known.
            let known = second > 0.0 && first.is_finite();
            confidences.push(if known { 1.0 - first / second } else { 0.0 });
            names.push(self.name(cluster));
        }
        Ok((StringArray::from(names), Float64Array::from(confidences)))
    }

    fn metrics(&self) -> Vec<&'static str> {
        vec!["davies_bouldin_index", "mean_squared_distance", "baseline_mean_squared_distance", "n_rows"]
    }

    fn evaluate(&self, rows: &RecordBatch, _ask: &PredictAsk) -> Result<Vec<Option<f64>>> {
        let matrix = self.features.matrix(rows)?;
        let (labels, squared) = kmeans::assign(matrix.view(), self.centroids.view());
        let n = matrix.nrows() as f64;
        let Some(middle) = matrix.mean_axis(Axis(0)) else {
            return Err(Error::invalid("the query gives no rows to evaluate on"));
        };
        let one_cluster = (&matrix - &middle).mapv(|difference| difference * difference).sum() / n;
        Ok(vec![
            metrics::davies_bouldin_index(matrix.view(), &labels, self.centroids.view()),
            Some(squared.iter().sum::<f64>() / n),
            Some(one_cluster),
            Some(n),
        ])
    }

    fn table(&self, name: &str) -> Result<RecordBatch> {
        if name != "centroids" {
            return Err(Error::unsupported(format!("a kmeans model has no {name}")).hint("see centroids('…')"));
        }
        let columns = self.features.columns();
        let scales = self.features.scales();
        let (mut ids, mut segments, mut sizes, mut features, mut values) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (cluster, centroid) in self.centroids.outer_iter().enumerate() {
            for ((column, (mean, scale)), value) in columns.iter().zip(&scales).zip(centroid) {
                ids.push(cluster as i64 + 1);
                segments.push(self.name(cluster));
                sizes.push(self.sizes.get(cluster).map_or(0, |size| *size as i64));
                features.push(column.clone());
                values.push(value * scale + mean);
            }
        }
        let table: [(&str, ArrayRef); 5] = [
            ("centroid_id", Arc::new(Int64Array::from(ids))),
            ("segment", Arc::new(StringArray::from(segments))),
            ("n_rows", Arc::new(Int64Array::from(sizes))),
            ("feature", Arc::new(StringArray::from(features))),
            ("value", Arc::new(Float64Array::from(values))),
        ];
        Ok(RecordBatch::try_from_iter(table)?)
    }
}
