package vector

import "fmt"

// Op is an instruction on tiles.
type Op uint8

// The instructions. Operands are float32 unless the name ends in Int (int32) or Uint (uint32); comparisons give masks.
const (
	// Float32, two operands. Max and Min are NaN if an operand is, and order -0 below +0. Rem has the sign of the first operand
	// (math.Mod). Pow, Rem and Atan2 go through float64 at all levels.
	Add Op = iota
	Sub
	Mul
	Div
	Max
	Min
	Pow
	Rem
	Atan2

	// Float32, one operand. Rsqrt is 1/Sqrt and Reciprocal 1/x, both rounded after each operation. Sign of NaN and of zeros is
	// +0. Round is to even. Logistic is 1/(1+exp(-x)). IsFinite and IsNaN give masks.
	Neg
	Abs
	Sign
	Floor
	Ceil
	Round
	Sqrt
	Rsqrt
	Reciprocal
	Square
	Exp
	Expm1
	Log
	Log1p
	Tanh
	Logistic
	Erf
	Sin
	Cos
	IsFinite
	IsNaN

	// Float32 to mask: NaN is not equal to anything, and neither less nor greater.
	Eq
	Ne
	Lt
	Le
	Gt
	Ge

	// Int32. Overflow wraps. Div is toward zero and Rem has the sign of the first operand; by zero they give -1 and the first
	// operand (as XLA; Go would stop the program), and the least int32 by -1 gives itself and 0.
	AddInt
	SubInt
	MulInt
	MaxInt
	MinInt
	DivInt
	RemInt
	NegInt
	AbsInt
	SignInt
	EqInt
	NeInt
	LtInt
	LeInt
	GtInt
	GeInt

	// Uint32. Other operations are those of int32. By zero, Div gives all ones and Rem the first operand.
	MaxUint
	MinUint
	DivUint
	RemUint
	LtUint
	LeUint
	GtUint
	GeUint

	// Bits, of integers and of masks. Shift counts of 32 or more, or below 0, shift everything out: ShiftRight then leaves
	// copies of the sign, the others 0.
	And
	Or
	Xor
	Not
	ShiftLeft
	ShiftRight        // int32: the sign is copied
	ShiftRightLogical // uint32: zeros come in
	PopulationCount
	LeadingZeros

	// Conversions between kinds of lanes; also fields of Kernels.
	FloatFromInt  // to nearest, ties to even
	FloatFromUint // to nearest, ties to even
	IntFromFloat  // toward zero; NaN and what does not fit give the least int32, as amd64's instruction
	UintFromFloat // toward zero; NaN and what is negative or too large give 0 for below 0 and NaN, and the greatest uint32
	FloatFromMask // 1 and 0
	IntFromMask   // 1 and 0
	MaskFromInt   // x != 0
	MaskFromFloat // x != 0; NaN is true

	// Count is the number of instructions.
	Count
)

var opNames = [Count]string{
	"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Rem", "Atan2",
	"Neg", "Abs", "Sign", "Floor", "Ceil", "Round", "Sqrt", "Rsqrt", "Reciprocal", "Square",
	"Exp", "Expm1", "Log", "Log1p", "Tanh", "Logistic", "Erf", "Sin", "Cos", "IsFinite", "IsNaN",
	"Eq", "Ne", "Lt", "Le", "Gt", "Ge",
	"AddInt", "SubInt", "MulInt", "MaxInt", "MinInt", "DivInt", "RemInt", "NegInt", "AbsInt", "SignInt",
	"EqInt", "NeInt", "LtInt", "LeInt", "GtInt", "GeInt",
	"MaxUint", "MinUint", "DivUint", "RemUint", "LtUint", "LeUint", "GtUint", "GeUint",
	"And", "Or", "Xor", "Not", "ShiftLeft", "ShiftRight", "ShiftRightLogical", "PopulationCount", "LeadingZeros",
	"FloatFromInt", "FloatFromUint", "IntFromFloat", "UintFromFloat", "FloatFromMask", "IntFromMask", "MaskFromInt", "MaskFromFloat",
}

// String is the name of the constant.
func (o Op) String() string {
	if o < Count {
		return opNames[o]
	}
	return fmt.Sprintf("Op(%d)", uint8(o))
}
