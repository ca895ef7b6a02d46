//! An aggregate that sees all rows at once: what evaluation needs, since a median or a curve is no sum.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use datafusion::physical_expr::expressions::Literal;

use crate::error::{Error, Result};
use crate::frame::canonical_order;
use crate::models::{Fitted, Registry};

/// An aggregate over the rows `('m@3', options…, 'name', column, …)`, the model and the `n_options` constant.
#[derive(Clone)]
pub struct Gather {
    pub name: &'static str,
    pub n_options: usize,
    pub finish: Finish,
}

/// What is made of all rows.
#[derive(Clone, Copy)]
pub enum Finish {
    /// What a model, named by the first argument, says of them. It is not asked of no rows.
    Model(fn(&Fitted, &AllRows) -> Result<ScalarValue>),
    /// What is made of them alone: the arguments begin with the options.
    Rows(fn(&AllRows) -> Result<ScalarValue>),
}

impl Gather {
    /// Arguments before the first name.
    fn n_constants(&self) -> usize {
        self.n_options + usize::from(matches!(self.finish, Finish::Model(_)))
    }
}

/// What an aggregate has when all rows are there.
pub struct AllRows<'a> {
    pub registry: &'a Registry,
    pub options: &'a [ScalarValue],
    pub schema: &'a SchemaRef,
    /// As they came.
    pub batches: &'a [RecordBatch],
    pub work: &'a dyn Work,
}

impl AllRows<'_> {
    /// All rows in canonical order.
    pub fn in_order(&self) -> Result<RecordBatch> {
        canonical_order(self.schema, self.batches)
    }
}

/// The query that an aggregate works for once it has all its rows.
pub trait Work: Send + Sync {
    /// Whether it is still wanted. What takes long asks often.
    fn go_on(&self) -> bool;
    /// Sets aside that many bytes until the query ends, or says that there are not so many.
    fn reserve(&self, bytes: usize) -> Result<()>;
}

/// Work that nobody watches.
struct Unwatched;

impl Work for Unwatched {
    fn go_on(&self) -> bool {
        true
    }

    fn reserve(&self, _bytes: usize) -> Result<()> {
        Ok(())
    }
}

impl Gather {
    pub fn udaf(self, registry: &Arc<Registry>, data_type: DataType) -> AggregateUDF {
        AggregateUDF::new_from_impl(Bound {
            gather: self,
            registry: Arc::clone(registry),
            data_type,
            signature: Signature::variadic_any(Volatility::Stable),
            work: Arc::new(Unwatched),
        })
    }

    /// The same aggregate, working for that query; `None`: it is none of these.
    ///
    /// A query stops where it waits, and an aggregate that has all its rows does not wait any more.
    pub fn stoppable(aggregate: &AggregateUDF, work: impl FnOnce() -> Arc<dyn Work>) -> Option<AggregateUDF> {
        let bound = aggregate.inner().downcast_ref::<Bound>()?;
        Some(AggregateUDF::new_from_impl(Bound { work: work(), ..bound.clone() }))
    }
}

/// Whether an aggregate asks a model.
pub fn asks_model(aggregate: &AggregateUDF) -> bool {
    let bound = aggregate.inner().downcast_ref::<Bound>();
    bound.is_some_and(|bound| matches!(bound.gather.finish, Finish::Model(_)))
}

#[derive(Clone)]
struct Bound {
    gather: Gather,
    registry: Arc<Registry>,
    data_type: DataType,
    signature: Signature,
    work: Arc<dyn Work>,
}

impl Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.gather.name)
    }
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.gather.name == other.gather.name && self.data_type == other.data_type
    }
}

impl Eq for Bound {}

impl Hash for Bound {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.gather.name.hash(state);
        self.data_type.hash(state);
    }
}

impl AggregateUDFImpl for Bound {
    fn name(&self) -> &str {
        self.gather.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.data_type.clone())
    }

    /// The rows so far, as one Arrow stream.
    fn state_fields(&self, _args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[rows]", self.gather.name), DataType::LargeBinary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        let constant = |at: usize| match args.exprs.get(at).and_then(|expr| expr.downcast_ref::<Literal>()) {
            Some(literal) => Ok(literal.value().clone()),
            None => Err(Error::internal(format!("{}: argument {at} is not constant", self.gather.name))),
        };
        let first_column = self.gather.n_constants();
        let mut fields = Vec::new();
        for pair in (first_column..args.exprs.len().saturating_sub(1)).step_by(2) {
            let name = constant(pair)?.to_string();
            fields.push(Field::new(name, args.expr_fields[pair + 1].data_type().clone(), true));
        }
        Ok(Box::new(Gathered {
            gather: self.gather.clone(),
            registry: Arc::clone(&self.registry),
            constants: (0..first_column).map(constant).collect::<Result<_>>()?,
            schema: Arc::new(Schema::new(fields)),
            batches: Vec::new(),
            work: Arc::clone(&self.work),
        }))
    }
}

/// Rows on the way to [`Gather::finish`].
struct Gathered {
    gather: Gather,
    registry: Arc<Registry>,
    /// The model, where one is asked, and the options.
    constants: Vec<ScalarValue>,
    /// Of the columns alone, under their names.
    schema: Arc<Schema>,
    batches: Vec<RecordBatch>,
    work: Arc<dyn Work>,
}

impl Debug for Gathered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({} batches)", self.gather.name, self.batches.len())
    }
}

impl Debug for Gather {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Accumulator for Gathered {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        // Of the pairs name, column only the columns are kept.
        let columns = values[self.gather.n_constants()..].iter().skip(1).step_by(2).map(Arc::clone).collect();
        self.batches.push(RecordBatch::try_new(Arc::clone(&self.schema), columns)?);
        Ok(())
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &self.schema)?;
        for batch in &self.batches {
            writer.write(batch)?;
        }
        writer.finish()?;
        drop(writer);
        Ok(vec![ScalarValue::LargeBinary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        for state in states[0].as_binary::<i64>().iter().flatten() {
            for batch in StreamReader::try_new(state, None)? {
                self.batches.push(batch?);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        self.finished().map_err(DataFusionError::from)
    }

    fn size(&self) -> usize {
        self.batches.iter().map(RecordBatch::get_array_memory_size).sum()
    }
}

impl Gathered {
    fn finished(&self) -> Result<ScalarValue> {
        let all = |options| AllRows {
            registry: &self.registry,
            options,
            schema: &self.schema,
            batches: &self.batches,
            work: &*self.work,
        };
        match self.gather.finish {
            Finish::Rows(finish) => finish(&all(&self.constants)),
            Finish::Model(_) if self.batches.iter().all(|batch| batch.num_rows() == 0) => {
                Err(Error::invalid("the query gives no rows to evaluate on")
                    .hint("run the SELECT alone and look at its rows"))
            }
            Finish::Model(finish) => {
                let named = self.constants.split_first();
                let named = named.and_then(|(model, options)| Some((model.try_as_str().flatten()?, options)));
                let (name, options) = named.ok_or_else(|| Error::internal("the model's name is lost"))?;
                finish(&self.registry.get(name)?, &all(options))
            }
        }
    }
}

/// One row of a batch as a struct value.
pub fn struct_value(row: &RecordBatch) -> Result<ScalarValue> {
    let array: ArrayRef = Arc::new(datafusion::arrow::array::StructArray::from(row.clone()));
    Ok(ScalarValue::try_from_array(&array, 0)?)
}

/// All rows of a batch as a list value of structs.
pub fn list_value(rows: &RecordBatch) -> Result<ScalarValue> {
    let fields = rows.schema().fields().clone();
    let list = crate::frame::list_of_structs(&fields, rows, &[Some(rows.num_rows())])?;
    Ok(ScalarValue::List(Arc::new(list)))
}
