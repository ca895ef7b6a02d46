//! The scalar functions behind the relations: one model, named by the first argument, applied to a batch.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::{Error, Kind, Result};
use crate::functions::gather::asks_model;
use crate::models::{Ask, Fitted, Registry};

/// A scalar function of a model. In a plan the model is a literal, `name@version`, so that a query sees one version
/// from its first row to its last and another machine finds the function and the model by name.
pub struct ModelFunction {
    pub name: &'static str,
    /// The type of the answer; the fields are those of the arguments after the model.
    pub returns: fn(&Fitted, &[FieldRef]) -> Result<DataType>,
    /// The answers for a batch.
    pub run: fn(&Fitted, &Given) -> Result<ArrayRef>,
    /// What the call is turned into while planning, if into something else.
    pub rewrite: Option<Rewrite>,
}

/// A call's arguments, the model among them, made into another expression.
pub type Rewrite = fn(&Arc<Registry>, Vec<Expr>) -> Result<Expr>;

/// The arguments after the model, for one batch.
pub struct Given<'a> {
    pub args: &'a [ColumnarValue],
    pub n_rows: usize,
}

impl Given<'_> {
    pub fn array(&self, at: usize) -> Result<ArrayRef> {
        let value = self.args.get(at).ok_or_else(|| Error::internal(format!("argument {at} is missing")))?;
        Ok(value.to_array(self.n_rows)?)
    }

    /// A constant argument.
    pub fn scalar(&self, at: usize) -> Result<ScalarValue> {
        match self.args.get(at) {
            Some(ColumnarValue::Scalar(value)) => Ok(value.clone()),
            // The engine may have turned a constant into a column of equal values.
            Some(ColumnarValue::Array(array)) if !array.is_empty() => Ok(ScalarValue::try_from_array(array, 0)?),
            _ => Err(Error::internal(format!("argument {at} is missing"))),
        }
    }

    pub fn whole(&self, at: usize) -> Result<Option<i64>> {
        Ok(self.scalar(at)?.to_array()?.as_primitive_opt::<Int64Type>().and_then(|array| array.iter().next().flatten()))
    }

    pub fn number(&self, at: usize) -> Result<Option<f64>> {
        let value = self.scalar(at)?.to_array()?;
        Ok(value.as_primitive_opt::<Float64Type>().and_then(|array| array.iter().next().flatten()))
    }

    /// How many rows are wanted, as a user typed it.
    pub fn k(&self, at: usize) -> Result<usize> {
        Ask::checked_k(self.whole(at)?.ok_or_else(|| Error::invalid("k must not be NULL"))?)
    }

    pub fn truth(&self, at: usize) -> Result<Option<bool>> {
        Ok(self.scalar(at)?.to_array()?.as_boolean_opt().and_then(|array| array.iter().next().flatten()))
    }

    /// From `at` on: name, column, name, column, … as a batch.
    pub fn named_columns(&self, at: usize) -> Result<RecordBatch> {
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for pair in (at..self.args.len().saturating_sub(1)).step_by(2) {
            let ScalarValue::Utf8(Some(name)) = self.scalar(pair)? else {
                return Err(Error::internal("a column without a name"));
            };
            let column = self.array(pair + 1)?;
            fields.push(Field::new(name, column.data_type().clone(), true));
            columns.push(column);
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

/// The model that an expression asks, by the literal it is named by; an error where it is named by anything else, and
/// nobody could tell whether it may be asked.
pub fn asked_model(expr: &Expr) -> Result<Option<&str>> {
    let (name, args) = match expr {
        Expr::ScalarFunction(call) if call.func.inner().downcast_ref::<Bound>().is_some() => {
            (call.func.name(), &call.args)
        }
        Expr::AggregateFunction(call) if asks_model(&call.func) => (call.func.name(), &call.params.args),
        _ => return Ok(None),
    };
    match args.first() {
        Some(Expr::Literal(model, _)) => Ok(model.try_as_str().flatten()),
        _ => Err(Error::new(Kind::WrongType, format!("{name}() wants the model's name as a text first"))),
    }
}

impl ModelFunction {
    /// The function as DataFusion knows it.
    pub fn udf(self, registry: &Arc<Registry>) -> ScalarUDF {
        let qualified = vec![format!("ml.{}", self.name)];
        ScalarUDF::new_from_impl(Bound {
            signature: Signature::variadic_any(Volatility::Stable),
            registry: Arc::clone(registry),
            aliases: qualified,
            function: self,
        })
    }
}

/// A function and the registry it finds its models in.
struct Bound {
    function: ModelFunction,
    registry: Arc<Registry>,
    signature: Signature,
    aliases: Vec<String>,
}

impl Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.function.name)
    }
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name && Arc::ptr_eq(&self.registry, &other.registry)
    }
}

impl Eq for Bound {}

impl Hash for Bound {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl Bound {
    fn fitted(&self, model: Option<&ScalarValue>) -> Result<Fitted> {
        match model.and_then(ScalarValue::try_as_str) {
            Some(Some(name)) => self.registry.get(name),
            _ => Err(Error::new(
                Kind::WrongType,
                format!("{}() wants the model's name as a text first", self.function.name),
            )
            .hint(format!("for example {}('churn', …)", self.function.name))),
        }
    }
}

impl ScalarUDFImpl for Bound {
    fn name(&self) -> &str {
        self.function.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Err(Error::internal("the type depends on the model").into())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let fitted = self.fitted(args.scalar_arguments.first().copied().flatten())?;
        let data_type = (self.function.returns)(&fitted, args.arg_fields.get(1..).unwrap_or_default())?;
        Ok(Arc::new(Field::new(self.function.name, data_type, true)))
    }

    fn simplify(&self, args: Vec<Expr>, _info: &SimplifyContext) -> DataFusionResult<ExprSimplifyResult> {
        match self.function.rewrite {
            Some(rewrite) => Ok(ExprSimplifyResult::Simplified(rewrite(&self.registry, args)?)),
            None => Ok(ExprSimplifyResult::Original(args)),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let model = match args.args.first() {
            Some(ColumnarValue::Scalar(model)) => self.fitted(Some(model))?,
            _ => self.fitted(None)?,
        };
        let given = Given { args: &args.args[1..], n_rows: args.number_rows };
        Ok(ColumnarValue::Array((self.function.run)(&model, &given)?))
    }
}
