package compile

import (
	"fmt"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/polargo/polar/backend/cpu/kernel/vector"
)

// native says whether fused loops compute with a type: those whose values fit lanes of 32 bits.
func native(t dtypes.DType) bool {
	switch t {
	case dtypes.Float32, dtypes.BFloat16, dtypes.Int32, dtypes.Uint32, dtypes.Bool:
		return true
	}
	return false
}

func isFloat(t dtypes.DType) bool { return t == dtypes.Float32 || t == dtypes.BFloat16 }

// elementwise says whether fused loops have an operation on operands of the given types.
func elementwise(op compute.OpType, out dtypes.DType, in []dtypes.DType) bool {
	if op == opCopy {
		return native(out)
	}
	if !native(out) || slices.ContainsFunc(in, func(t dtypes.DType) bool { return !native(t) }) {
		return false
	}
	switch op {
	case compute.OpTypeWhere:
		return true
	case compute.OpTypeConvertDType:
		_, _, ok := conversion(in[0], out)
		return ok
	case compute.OpTypeClamp:
		_, ok := instruction(compute.OpTypeMax, out)
		return ok
	}
	if len(in) == 0 {
		return false
	}
	_, ok := instruction(op, in[0])
	return ok
}

// conversion is the instruction from one kind of lane to another; none is true where the lanes are the same.
func conversion(from, to dtypes.DType) (op vector.Op, none, ok bool) {
	kind := func(t dtypes.DType) dtypes.DType {
		if t == dtypes.BFloat16 {
			return dtypes.Float32
		}
		return t
	}
	from, to = kind(from), kind(to)
	integer := func(t dtypes.DType) bool { return t == dtypes.Int32 || t == dtypes.Uint32 }
	switch {
	case from == to, integer(from) && integer(to):
		return 0, true, true
	case to == dtypes.Bool:
		if from == dtypes.Float32 {
			return vector.MaskFromFloat, false, true
		}
		return vector.MaskFromInt, false, true
	case from == dtypes.Bool:
		if to == dtypes.Float32 {
			return vector.FloatFromMask, false, true
		}
		return vector.IntFromMask, false, true
	case from == dtypes.Int32:
		return vector.FloatFromInt, false, true
	case from == dtypes.Uint32:
		return vector.FloatFromUint, false, true
	case to == dtypes.Int32:
		return vector.IntFromFloat, false, true
	case to == dtypes.Uint32:
		return vector.UintFromFloat, false, true
	}
	return 0, false, false
}

var floatInstructions = map[compute.OpType]vector.Op{
	compute.OpTypeAdd: vector.Add, compute.OpTypeSub: vector.Sub, compute.OpTypeMul: vector.Mul, compute.OpTypeDiv: vector.Div,
	compute.OpTypeMax: vector.Max, compute.OpTypeMin: vector.Min, compute.OpTypePow: vector.Pow, compute.OpTypeRem: vector.Rem,
	compute.OpTypeAtan2: vector.Atan2,
	compute.OpTypeNeg:   vector.Neg, compute.OpTypeAbs: vector.Abs, compute.OpTypeSign: vector.Sign, compute.OpTypeFloor: vector.Floor,
	compute.OpTypeCeil: vector.Ceil, compute.OpTypeRound: vector.Round, compute.OpTypeSqrt: vector.Sqrt, compute.OpTypeRsqrt: vector.Rsqrt,
	compute.OpTypeExp: vector.Exp, compute.OpTypeExpm1: vector.Expm1, compute.OpTypeLog: vector.Log, compute.OpTypeLog1p: vector.Log1p,
	compute.OpTypeTanh: vector.Tanh, compute.OpTypeLogistic: vector.Logistic, compute.OpTypeErf: vector.Erf, compute.OpTypeSin: vector.Sin,
	compute.OpTypeCos: vector.Cos, compute.OpTypeIsFinite: vector.IsFinite, compute.OpTypeIsNaN: vector.IsNaN,
	compute.OpTypeEqual: vector.Eq, compute.OpTypeNotEqual: vector.Ne, compute.OpTypeLessThan: vector.Lt,
	compute.OpTypeLessOrEqual: vector.Le, compute.OpTypeGreaterThan: vector.Gt, compute.OpTypeGreaterOrEqual: vector.Ge,
}

var integerInstructions = map[compute.OpType]vector.Op{
	compute.OpTypeAdd: vector.AddInt, compute.OpTypeSub: vector.SubInt, compute.OpTypeMul: vector.MulInt,
	compute.OpTypeNeg: vector.NegInt, compute.OpTypeEqual: vector.EqInt, compute.OpTypeNotEqual: vector.NeInt,
	compute.OpTypeBitwiseAnd: vector.And, compute.OpTypeBitwiseOr: vector.Or, compute.OpTypeBitwiseXor: vector.Xor,
	compute.OpTypeBitwiseNot: vector.Not, compute.OpTypeShiftLeft: vector.ShiftLeft,
	compute.OpTypeShiftRightLogical: vector.ShiftRightLogical, compute.OpTypeBitCount: vector.PopulationCount, compute.OpTypeClz: vector.LeadingZeros,
}

var signedInstructions = map[compute.OpType]vector.Op{
	compute.OpTypeMax: vector.MaxInt, compute.OpTypeMin: vector.MinInt, compute.OpTypeDiv: vector.DivInt, compute.OpTypeRem: vector.RemInt,
	compute.OpTypeAbs: vector.AbsInt, compute.OpTypeSign: vector.SignInt, compute.OpTypeLessThan: vector.LtInt,
	compute.OpTypeLessOrEqual: vector.LeInt, compute.OpTypeGreaterThan: vector.GtInt, compute.OpTypeGreaterOrEqual: vector.GeInt,
	compute.OpTypeShiftRightArithmetic: vector.ShiftRight,
}

var unsignedInstructions = map[compute.OpType]vector.Op{
	compute.OpTypeMax: vector.MaxUint, compute.OpTypeMin: vector.MinUint, compute.OpTypeDiv: vector.DivUint, compute.OpTypeRem: vector.RemUint,
	compute.OpTypeLessThan: vector.LtUint, compute.OpTypeLessOrEqual: vector.LeUint, compute.OpTypeGreaterThan: vector.GtUint,
	compute.OpTypeGreaterOrEqual: vector.GeUint,
}

var boolInstructions = map[compute.OpType]vector.Op{
	compute.OpTypeLogicalAnd: vector.And, compute.OpTypeLogicalOr: vector.Or, compute.OpTypeLogicalXor: vector.Xor,
	compute.OpTypeLogicalNot: vector.Not, compute.OpTypeEqual: vector.EqInt, compute.OpTypeNotEqual: vector.NeInt,
}

// instruction is that of an operation on operands of a type.
func instruction(op compute.OpType, t dtypes.DType) (vector.Op, bool) {
	tables := []map[compute.OpType]vector.Op{}
	switch t {
	case dtypes.Float32, dtypes.BFloat16:
		tables = append(tables, floatInstructions)
	case dtypes.Int32:
		tables = append(tables, integerInstructions, signedInstructions)
	case dtypes.Uint32:
		tables = append(tables, integerInstructions, unsignedInstructions)
	case dtypes.Bool:
		tables = append(tables, boolInstructions)
	}
	for _, table := range tables {
		if v, ok := table[op]; ok {
			return v, true
		}
	}
	return 0, false
}

// scalarValue is the value of a flat slice of one element, where float64 holds it exactly.
func scalarValue(flat any) (float64, bool) {
	switch v := flat.(type) {
	case []float32:
		return float64(v[0]), true
	case []float64:
		return v[0], true
	case []int32:
		return float64(v[0]), true
	case []uint32:
		return float64(v[0]), true
	case []bfloat16.BFloat16:
		return float64(v[0].Float32()), true
	}
	return 0, false
}

// bitsOf is the bits of a flat slice of one element, as a key.
func bitsOf(flat any) string {
	if v, ok := scalarValue(flat); ok {
		return fmt.Sprintf("%b", v)
	}
	return fmt.Sprint(flat)
}

// counting is 0, 1, 2, ... of a type.
func counting(t dtypes.DType, n int) any {
	switch t {
	case dtypes.Int32:
		return ramp[int32](n)
	case dtypes.Uint32:
		return ramp[uint32](n)
	}
	return ramp[float32](n)
}

func ramp[T int32 | uint32 | float32](n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = T(i)
	}
	return out
}
