//! The aggregate behind what describes and cleans numbers: one pass over a column, a summary of it in bounded memory.

use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, StructArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility, cast, lit};
use datafusion::physical_expr::expressions::Literal;

use crate::error::{Error, Result};
use crate::kernels::distribution::{Distribution, Sorted};

/// What is asked of a column's numbers: a name for each answer, and how they are found.
#[derive(Clone, Copy)]
pub struct Question {
    pub name: &'static str,
    pub answers: &'static [&'static str],
    /// The answers in that order, from the summary, its numbers in order and the constants of the call.
    pub answer: fn(&Distribution, &Sorted, &[f64]) -> Vec<Option<f64>>,
}

impl Question {
    /// `question(column::double precision, constants…)`: a struct of doubles.
    pub fn of(self, column: Expr, constants: &[f64]) -> Expr {
        let mut args = vec![cast(column, DataType::Float64)];
        args.extend(constants.iter().map(|value| lit(*value)));
        let signature = Signature::exact(vec![DataType::Float64; args.len()], Volatility::Immutable);
        AggregateUDF::new_from_impl(Asked { question: self, signature }).call(args)
    }

    fn fields(&self) -> Fields {
        self.answers.iter().map(|name| Field::new(*name, DataType::Float64, true)).collect()
    }
}

#[derive(Clone)]
struct Asked {
    question: Question,
    signature: Signature,
}

impl Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.question.name)
    }
}

/// A question has one name, so the name tells them apart.
impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        self.question.name == other.question.name && self.signature == other.signature
    }
}

impl Eq for Asked {}

impl Hash for Asked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.question.name.hash(state);
    }
}

impl AggregateUDFImpl for Asked {
    fn name(&self) -> &str {
        self.question.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Struct(self.question.fields()))
    }

    fn state_fields(&self, _args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[summary]", self.question.name), DataType::LargeBinary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        let constant = |expr: &Arc<dyn datafusion::physical_expr::PhysicalExpr>| match expr.downcast_ref::<Literal>() {
            Some(literal) => match literal.value() {
                ScalarValue::Float64(Some(value)) => Ok(*value),
                other => Err(Error::internal(format!("{}: {other} is no double", self.question.name))),
            },
            None => Err(Error::internal(format!("{}: an argument is not constant", self.question.name))),
        };
        let constants = args.exprs.iter().skip(1).map(constant).collect::<Result<_>>()?;
        Ok(Box::new(Summary { question: self.question, constants, numbers: Distribution::default() }))
    }
}

struct Summary {
    question: Question,
    constants: Vec<f64>,
    numbers: Distribution,
}

impl Debug for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} numbers)", self.question.name, self.numbers.n())
    }
}

impl Accumulator for Summary {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        values[0].as_primitive::<Float64Type>().iter().flatten().for_each(|value| self.numbers.add(value));
        Ok(())
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        let bytes = self.numbers.to_words().into_iter().flat_map(u64::to_le_bytes).collect();
        Ok(vec![ScalarValue::LargeBinary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        for state in states[0].as_binary::<i64>().iter().flatten() {
            let words = state.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
            let part = Distribution::from_words(words)
                .ok_or_else(|| Error::internal(format!("{}: a summary is damaged", self.question.name)))?;
            self.numbers.merge(&part);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let answers = (self.question.answer)(&self.numbers, &self.numbers.sorted(), &self.constants);
        let columns = answers.into_iter().map(|value| Arc::new(Float64Array::from(vec![value])) as ArrayRef).collect();
        let row = StructArray::try_new(self.question.fields(), columns, None)?;
        Ok(ScalarValue::Struct(Arc::new(row)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.numbers.size()
    }
}
