package cpu

import (
	"fmt"
	"math/rand/v2"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/dtypes/float16"
	"github.com/gomlx/compute/shapes"
	"github.com/polargo/polar/backend/cpu/ir"
)

// sample is one operation: how it is built and what must be recorded.
type sample struct {
	op     compute.OpType
	inputs []shapes.Shape
	build  func(f compute.Function, in []compute.Value) ([]compute.Value, error)
	attrs  any // nil: none; a check function for those with closures
	nodes  int // inputs of the recorded node, if not those of the sample
	native bool
}

type (
	values = []compute.Value
	fn     = compute.Function
)

func f32(dims ...int) shapes.Shape   { return shapes.Make(dtypes.Float32, dims...) }
func i32(dims ...int) shapes.Shape   { return shapes.Make(dtypes.Int32, dims...) }
func flags(dims ...int) shapes.Shape { return shapes.Make(dtypes.Bool, dims...) }
func u8(dims ...int) shapes.Shape    { return shapes.Make(dtypes.Uint8, dims...) }

func list(shapes ...shapes.Shape) []shapes.Shape { return shapes }

// catalogue has every operation of the go backend, and those that only the native compiler may have.
func catalogue() (all []sample) {
	unary := func(shape shapes.Shape, methods map[compute.OpType]unaryOp) {
		for op, method := range methods {
			all = append(all, sample{op: op, inputs: list(shape),
				build: func(f fn, in values) (values, error) { return single(method(f, in[0])) }})
		}
	}
	binary := func(native bool, x, y shapes.Shape, methods map[compute.OpType]binaryOp) {
		for op, method := range methods {
			all = append(all, sample{op: op, inputs: list(x, y), native: native,
				build: func(f fn, in values) (values, error) { return single(method(f, in[0], in[1])) }})
		}
	}
	unary(f32(3, 4), map[compute.OpType]unaryOp{
		compute.OpTypeAbs: fn.Abs, compute.OpTypeCeil: fn.Ceil, compute.OpTypeCos: fn.Cos, compute.OpTypeErf: fn.Erf,
		compute.OpTypeExp: fn.Exp, compute.OpTypeExpm1: fn.Expm1, compute.OpTypeFloor: fn.Floor, compute.OpTypeIdentity: fn.Identity,
		compute.OpTypeIsFinite: fn.IsFinite, compute.OpTypeIsNaN: fn.IsNaN, compute.OpTypeLog: fn.Log, compute.OpTypeLog1p: fn.Log1p,
		compute.OpTypeLogistic: fn.Logistic, compute.OpTypeNeg: fn.Neg, compute.OpTypeRound: fn.Round, compute.OpTypeRsqrt: fn.Rsqrt,
		compute.OpTypeSign: fn.Sign, compute.OpTypeSin: fn.Sin, compute.OpTypeSqrt: fn.Sqrt, compute.OpTypeTanh: fn.Tanh,
		compute.OpTypeDynamicShape: fn.DynamicShape,
	})
	unary(i32(5), map[compute.OpType]unaryOp{
		compute.OpTypeBitCount: fn.BitCount, compute.OpTypeBitwiseNot: fn.BitwiseNot, compute.OpTypeClz: fn.Clz,
	})
	unary(flags(5), map[compute.OpType]unaryOp{compute.OpTypeLogicalNot: fn.LogicalNot})
	binary(false, f32(3, 4), f32(), map[compute.OpType]binaryOp{ // a scalar operand is recorded as it is
		compute.OpTypeAdd: fn.Add, compute.OpTypeSub: fn.Sub, compute.OpTypeMul: fn.Mul, compute.OpTypeDiv: fn.Div,
		compute.OpTypePow: fn.Pow, compute.OpTypeRem: fn.Rem, compute.OpTypeAtan2: fn.Atan2,
	})
	binary(false, f32(3, 1), f32(3, 4), map[compute.OpType]binaryOp{
		compute.OpTypeMax: fn.Max, compute.OpTypeMin: fn.Min, compute.OpTypeEqual: fn.Equal, compute.OpTypeNotEqual: fn.NotEqual,
		compute.OpTypeGreaterThan: fn.GreaterThan, compute.OpTypeGreaterOrEqual: fn.GreaterOrEqual,
		compute.OpTypeLessThan: fn.LessThan, compute.OpTypeLessOrEqual: fn.LessOrEqual,
	})
	binary(false, i32(5), i32(5), map[compute.OpType]binaryOp{
		compute.OpTypeBitwiseAnd: fn.BitwiseAnd, compute.OpTypeBitwiseOr: fn.BitwiseOr, compute.OpTypeBitwiseXor: fn.BitwiseXor,
		compute.OpTypeShiftLeft: fn.ShiftLeft, compute.OpTypeShiftRightArithmetic: fn.ShiftRightArithmetic,
		compute.OpTypeShiftRightLogical: fn.ShiftRightLogical,
	})
	binary(false, flags(5), flags(5), map[compute.OpType]binaryOp{
		compute.OpTypeLogicalAnd: fn.LogicalAnd, compute.OpTypeLogicalOr: fn.LogicalOr, compute.OpTypeLogicalXor: fn.LogicalXor,
	})
	binary(true, f32(3, 4), f32(), map[compute.OpType]binaryOp{
		compute.OpTypeEqualTotalOrder: fn.EqualTotalOrder, compute.OpTypeNotEqualTotalOrder: fn.NotEqualTotalOrder,
		compute.OpTypeGreaterThanTotalOrder: fn.GreaterThanTotalOrder, compute.OpTypeGreaterOrEqualTotalOrder: fn.GreaterOrEqualTotalOrder,
		compute.OpTypeLessThanTotalOrder: fn.LessThanTotalOrder, compute.OpTypeLessOrEqualTotalOrder: fn.LessOrEqualTotalOrder,
	})
	all = append(all, reductions()...)
	all = append(all, movements()...)
	all = append(all, heavy()...)
	all = append(all, controls()...)
	return append(all, fusions()...)
}

func reductions() (all []sample) {
	add := func(op compute.OpType, shape shapes.Shape, method reduceOp, want []int, axes ...int) {
		all = append(all, sample{op: op, inputs: list(shape), attrs: ir.AxesAttrs{Axes: want},
			build: func(f fn, in values) (values, error) { return single(method(f, in[0], axes...)) }})
	}
	add(compute.OpTypeReduceSum, f32(2, 3, 4), fn.ReduceSum, []int{0, 2}, 2, 0)
	add(compute.OpTypeReduceSum, f32(2, 3, 4), fn.ReduceSum, []int{0, 1, 2})
	add(compute.OpTypeReduceMax, f32(2, 3), fn.ReduceMax, []int{1}, 1)
	add(compute.OpTypeReduceMin, f32(2, 3), fn.ReduceMin, []int{0}, 0)
	add(compute.OpTypeReduceProduct, f32(2, 3), fn.ReduceProduct, []int{1}, 1)
	add(compute.OpTypeReduceBitwiseAnd, i32(2, 3), fn.ReduceBitwiseAnd, []int{1}, 1)
	add(compute.OpTypeReduceBitwiseOr, i32(2, 3), fn.ReduceBitwiseOr, []int{1}, 1)
	add(compute.OpTypeReduceBitwiseXor, i32(2, 3), fn.ReduceBitwiseXor, []int{1}, 1)
	add(compute.OpTypeReduceLogicalAnd, flags(2, 3), fn.ReduceLogicalAnd, []int{1}, 1)
	add(compute.OpTypeReduceLogicalOr, flags(2, 3), fn.ReduceLogicalOr, []int{1}, 1)
	add(compute.OpTypeReduceLogicalXor, flags(2, 3), fn.ReduceLogicalXor, []int{1}, 1)
	return append(all, sample{
		op: compute.OpTypeArgMinMax, inputs: list(f32(2, 5)), attrs: ir.ArgMinMaxAttrs{Axis: 1, IsMin: true},
		build: func(f fn, in values) (values, error) { return single(f.ArgMinMax(in[0], 1, dtypes.Int32, true)) },
	}, sample{
		op: compute.OpTypeReduceWindow, inputs: list(f32(2, 6)), attrs: raw(compute.ReduceOpMax, []int{1, 2}, []int{1, 2}, []int(nil), []int(nil), [][2]int(nil)),
		build: func(f fn, in values) (values, error) {
			return single(f.ReduceWindow(in[0], compute.ReduceOpMax, []int{1, 2}, []int{1, 2}, nil, nil, nil))
		},
	})
}

func movements() []sample {
	scatter := func(op compute.OpType, method scatterOp) sample {
		return sample{
			op: op, inputs: list(f32(5, 3), i32(2, 1), f32(2, 3)),
			attrs: ir.ScatterAttrs{IndexVectorAxis: 1, UpdateWindowAxes: []int{1}, InsertedWindowAxes: []int{0},
				ScatterAxesToOperandAxes: []int{0}, UniqueIndices: true},
			build: func(f fn, in values) (values, error) {
				return single(method(f, in[0], in[1], in[2], 1, []int{1}, []int{0}, []int{0}, false, true))
			},
		}
	}
	return []sample{
		{op: compute.OpTypeConstant, attrs: ir.ConstantAttrs{Flat: []float32{1, 2, 3, 4, 5, 6}},
			build: func(f fn, _ values) (values, error) { return single(f.Constant([]float32{1, 2, 3, 4, 5, 6}, 2, 3)) }},
		{op: compute.OpTypeIota, attrs: ir.IotaAttrs{Axis: 1},
			build: func(f fn, _ values) (values, error) { return single(f.Iota(i32(2, 3), 1)) }},
		{op: compute.OpTypeBitcast, inputs: list(f32(4)),
			build: func(f fn, in values) (values, error) { return single(f.Bitcast(in[0], dtypes.Uint16)) }},
		{op: compute.OpTypeConvertDType, inputs: list(f32(4)),
			build: func(f fn, in values) (values, error) { return single(f.ConvertDType(in[0], dtypes.BFloat16)) }},
		{op: compute.OpTypeBroadcastInDim, inputs: list(f32(1, 3)), attrs: ir.BroadcastAttrs{Axes: []int{0, 2}},
			build: func(f fn, in values) (values, error) {
				return single(f.BroadcastInDim(in[0], f32(2, 4, 3), []int{0, 2}))
			}},
		{op: compute.OpTypeConcatenate, inputs: list(f32(2, 3), f32(2, 1)), attrs: ir.ConcatenateAttrs{Axis: 1},
			build: func(f fn, in values) (values, error) { return single(f.Concatenate(1, in...)) }},
		{op: compute.OpTypePad, inputs: list(f32(2, 3), f32()),
			attrs: ir.PadAttrs{Axes: []compute.PadAxis{{Start: 1, End: 2, Interior: 1}, {}}},
			build: func(f fn, in values) (values, error) {
				return single(f.Pad(in[0], in[1], compute.PadAxis{Start: 1, End: 2, Interior: 1}))
			}},
		{op: compute.OpTypeReshape, inputs: list(f32(2, 6)),
			build: func(f fn, in values) (values, error) { return single(f.Reshape(in[0], 3, 4)) }},
		{op: compute.OpTypeReverse, inputs: list(f32(2, 3)), attrs: ir.AxesAttrs{Axes: []int{1}},
			build: func(f fn, in values) (values, error) { return single(f.Reverse(in[0], 1)) }},
		{op: compute.OpTypeSlice, inputs: list(f32(4, 6)), attrs: ir.SliceAttrs{Starts: []int{1, 0}, Limits: []int{4, 5}, Strides: []int{1, 2}},
			build: func(f fn, in values) (values, error) {
				return single(f.Slice(in[0], []int{1, 0}, []int{4, 5}, []int{1, 2}))
			}},
		{op: compute.OpTypeSlice, inputs: list(f32(4, 6)), attrs: ir.SliceAttrs{Starts: []int{1, 0}, Limits: []int{4, 5}, Strides: []int{1, 1}},
			build: func(f fn, in values) (values, error) { return single(f.Slice(in[0], []int{1, 0}, []int{4, 5}, nil)) }},
		{op: compute.OpTypeTranspose, inputs: list(f32(2, 3, 4)), attrs: ir.TransposeAttrs{Permutation: []int{2, 0, 1}},
			build: func(f fn, in values) (values, error) { return single(f.Transpose(in[0], 2, 0, 1)) }},
		{op: compute.OpTypeGather, inputs: list(f32(5, 3), i32(4, 1)),
			attrs: ir.GatherAttrs{IndexVectorAxis: 1, OffsetOutputAxes: []int{1}, CollapsedSliceAxes: []int{0}, StartIndexMap: []int{0},
				SliceSizes: []int{1, 3}, IndicesAreSorted: true},
			build: func(f fn, in values) (values, error) {
				return single(f.Gather(in[0], in[1], 1, []int{1}, []int{0}, []int{0}, []int{1, 3}, true))
			}},
		scatter(compute.OpTypeScatterSum, fn.ScatterSum),
		scatter(compute.OpTypeScatterMax, fn.ScatterMax),
		scatter(compute.OpTypeScatterMin, fn.ScatterMin),
		{op: compute.OpTypeClamp, inputs: list(f32(), f32(2, 3), f32()),
			build: func(f fn, in values) (values, error) { return single(f.Clamp(in[0], in[1], in[2])) }},
		{op: compute.OpTypeWhere, inputs: list(flags(2, 3), f32(2, 3), f32()),
			build: func(f fn, in values) (values, error) { return single(f.Where(in[0], in[1], in[2])) }},
		{op: compute.OpTypeDynamicSlice, inputs: list(f32(4, 6), i32(), i32()), attrs: ir.DynamicSliceAttrs{Sizes: []int{2, 3}}, native: true,
			build: func(f fn, in values) (values, error) { return single(f.DynamicSlice(in[0], in[1:], []int{2, 3})) }},
		{op: compute.OpTypeDynamicUpdateSlice, inputs: list(f32(4, 6), f32(2, 3), i32(), i32()), native: true,
			build: func(f fn, in values) (values, error) { return single(f.DynamicUpdateSlice(in[0], in[1], in[2:])) }},
		{op: compute.OpTypeOptimizationBarrier, inputs: list(f32(3)),
			build: func(f fn, in values) (values, error) { return f.OptimizationBarrier(in...) }},
		{op: compute.OpTypeSchedulingBarrier, inputs: list(f32(3), i32(2)),
			build: func(f fn, in values) (values, error) { return single(f.SchedulingBarrier(in[0], in[1])) }},
		{op: compute.OpTypeDynamicDimensionSize, inputs: list(f32(3, 4)), attrs: raw(1),
			build: func(f fn, in values) (values, error) { return single(f.DynamicDimensionSize(in[0], 1)) }},
		{op: compute.OpTypeDynamicReshape, inputs: list(f32(3, 4)),
			attrs: raw([]compute.DynamicDimensionSpec{{Static: 2}, {Static: 6}}, []bool{false, false}),
			build: func(f fn, in values) (values, error) {
				return single(f.DynamicReshape(in[0], compute.DynamicDimensionSpec{Static: 2}, compute.DynamicDimensionSpec{Static: 6}))
			}},
	}
}

func heavy() []sample {
	conv := compute.ConvolveAxesConfig{InputBatch: 0, InputChannels: 2, InputSpatial: []int{1}, KernelInputChannels: 1,
		KernelOutputChannels: 2, KernelSpatial: []int{0}, OutputBatch: 0, OutputChannels: 2, OutputSpatial: []int{1}}
	config := compute.DotGeneralConfig{AccumulatorDType: dtypes.Float32}
	return []sample{
		{op: compute.OpTypeDotGeneral, inputs: list(f32(2, 3, 4), f32(2, 4, 5)),
			attrs: ir.DotGeneralAttrs{LeftContracting: []int{2}, LeftBatch: []int{0}, RightContracting: []int{1}, RightBatch: []int{0}, Config: config},
			build: func(f fn, in values) (values, error) {
				return single(f.DotGeneral(in[0], []int{2}, []int{0}, in[1], []int{1}, []int{0}, config))
			}},
		{op: compute.OpTypeConvGeneral, inputs: list(f32(2, 8, 3), f32(3, 3, 4)),
			attrs: raw(conv, []int{1}, [][2]int{{1, 1}}, []int(nil), []int(nil), 1, 1),
			build: func(f fn, in values) (values, error) {
				return single(f.ConvGeneral(in[0], in[1], conv, []int{1}, [][2]int{{1, 1}}, nil, nil, 1, 1))
			}},
		{op: compute.OpTypeSelectAndScatterMax, inputs: list(f32(4), f32(2)), attrs: raw([]int{2}, []int{2}, [][2]int(nil)),
			build: func(f fn, in values) (values, error) {
				return single(f.SelectAndScatterMax(in[0], in[1], []int{2}, []int{2}, nil))
			}},
		{op: compute.OpTypeSelectAndScatterMin, inputs: list(f32(4), f32(2)), attrs: raw([]int{2}, []int{2}, [][2]int(nil)),
			build: func(f fn, in values) (values, error) {
				return single(f.SelectAndScatterMin(in[0], in[1], []int{2}, []int{2}, nil))
			}},
		{op: compute.OpTypeRNGBitGenerator, inputs: list(compute.RNGStateShape),
			build: func(f fn, in values) (values, error) {
				state, random, err := f.RNGBitGenerator(in[0], shapes.Make(dtypes.Uint32, 5))
				return values{state, random}, err
			}},
	}
}

// inClosure builds a closure of f with parameters of the given shapes.
func inClosure(f fn, params []shapes.Shape, body func(c fn, in values) (values, error)) (fn, error) {
	c, err := f.Closure()
	if err != nil {
		return nil, err
	}
	return c, inFunction(c, params, body)
}

func inFunction(c fn, params []shapes.Shape, body func(c fn, in values) (values, error)) error {
	in := make(values, len(params))
	for i, shape := range params {
		var err error
		if in[i], err = c.Parameter(fmt.Sprintf("p%d", i), shape, nil); err != nil {
			return err
		}
	}
	outputs, err := body(c, in)
	if err != nil {
		return err
	}
	return c.Return(outputs, nil)
}

func controls() []sample {
	return []sample{
		{op: compute.OpTypeWhile, inputs: list(f32(3), i32(), i32(), f32(3)), nodes: 4, build: buildWhile, attrs: checkWhile},
		{op: compute.OpTypeIf, inputs: list(flags(), f32(3), f32(3)), nodes: 4, build: buildIf, attrs: checkIf},
		{op: compute.OpTypeSort, inputs: list(f32(3, 5), i32(3, 5)), build: buildSort, attrs: checkSort},
		{op: compute.OpTypeCall, inputs: list(f32(3), f32(3)), attrs: checkCall,
			build: func(f fn, in values) (values, error) {
				g, err := f.Builder().NewFunction("twice")
				if err != nil {
					return nil, err
				}
				err = inFunction(g, list(f32(3), f32(3)), func(g fn, in values) (values, error) {
					sum, err := g.Add(in[0], in[1])
					if err != nil {
						return nil, err
					}
					product, err := g.Mul(sum, in[0])
					return values{sum, product}, err
				})
				if err != nil {
					return nil, err
				}
				return f.Call(g, in...)
			}},
	}
}

// buildWhile: while i < limit (captured by cond), x += step (captured by body), i++.
func buildWhile(f fn, in values) (values, error) {
	limit, step := in[2], in[3]
	state := list(f32(3), i32())
	cond, err := inClosure(f, state, func(c fn, in values) (values, error) { return single(c.LessThan(in[1], limit)) })
	if err != nil {
		return nil, err
	}
	body, err := inClosure(f, state, func(c fn, in values) (values, error) {
		x, err := c.Add(in[0], step)
		if err != nil {
			return nil, err
		}
		one, err := c.Constant([]int32{1})
		if err != nil {
			return nil, err
		}
		i, err := c.Add(in[1], one)
		return values{x, i}, err
	})
	if err != nil {
		return nil, err
	}
	return f.While(cond, body, in[0], in[1])
}

func checkWhile(node *ir.Node) error {
	a, ok := node.Attrs.(ir.WhileAttrs)
	if !ok || len(a.Cond.Captures) != 1 || len(a.Body.Captures) != 1 || len(a.Cond.Params) != 2 || len(a.Body.Params) != 2 ||
		len(a.Cond.Outputs) != 1 || len(a.Body.Outputs) != 2 {
		return fmt.Errorf("attributes %#v", node.Attrs)
	}
	return outers(node, 2, a.Cond, a.Body)
}

// buildIf: x + y, or y - x and y, both of which are captured.
func buildIf(f fn, in values) (values, error) {
	x, y := in[1], in[2]
	yes, err := inClosure(f, nil, func(c fn, _ values) (values, error) { return single(c.Add(x, x)) })
	if err != nil {
		return nil, err
	}
	no, err := inClosure(f, nil, func(c fn, _ values) (values, error) { return single(c.Sub(y, x)) })
	if err != nil {
		return nil, err
	}
	return f.If(in[0], yes, no)
}

func checkIf(node *ir.Node) error {
	a, ok := node.Attrs.(ir.IfAttrs)
	if !ok || len(a.Then.Captures) != 1 || len(a.Else.Captures) != 2 {
		return fmt.Errorf("attributes %#v", node.Attrs)
	}
	return outers(node, 1, a.Then, a.Else)
}

// outers wants the inputs from first on to be what the closures capture, in their order.
func outers(node *ir.Node, first int, closures ...*ir.Function) error {
	for _, closure := range closures {
		for _, capture := range closure.Captures {
			if first >= len(node.Inputs) || capture.Attrs.(ir.CaptureAttrs).Outer != node.Inputs[first] {
				return fmt.Errorf("input %d is not what the closure captures", first)
			}
			first++
		}
	}
	if first != len(node.Inputs) {
		return fmt.Errorf("%d inputs, want %d", len(node.Inputs), first)
	}
	return nil
}

func buildSort(f fn, in values) (values, error) {
	scalars := list(f32(), f32(), i32(), i32())
	less, err := inClosure(f, scalars, func(c fn, in values) (values, error) { return single(c.LessThan(in[0], in[1])) })
	if err != nil {
		return nil, err
	}
	return f.Sort(less, -1, true, in...)
}

func checkSort(node *ir.Node) error {
	if a, ok := node.Attrs.(ir.SortAttrs); !ok || a.Axis != 1 || !a.Stable || len(a.Comparator.Params) != 4 {
		return fmt.Errorf("attributes %#v", node.Attrs)
	}
	return nil
}

func checkCall(node *ir.Node) error {
	if a, ok := node.Attrs.(ir.CallAttrs); !ok || a.Function.Name != "twice" || len(a.Function.Outputs) != 2 {
		return fmt.Errorf("attributes %#v", node.Attrs)
	}
	return nil
}

func fusions() []sample {
	linear := &compute.Quantization{Scheme: compute.QuantLinear, BlockAxis: 1, BlockSize: 4}
	ggml := &compute.Quantization{Scheme: compute.QuantGGML, GGMLType: compute.GGMLQ8_0}
	all := []sample{
		{op: compute.OpTypeFusedSoftmax, inputs: list(f32(3, 4)), attrs: ir.SoftmaxAttrs{Axis: 1},
			build: func(f fn, in values) (values, error) { return single(f.FusedSoftmax(in[0], 1)) }},
		{op: compute.OpTypeFusedGelu, inputs: list(f32(3, 4)), attrs: ir.GeluAttrs{Exact: true},
			build: func(f fn, in values) (values, error) { return single(f.FusedGelu(in[0], true)) }},
		{op: compute.OpTypeFusedLayerNorm, inputs: list(f32(3, 4), f32(4)), attrs: ir.LayerNormAttrs{Axes: []int{1}, Epsilon: 1e-5, HasBeta: true},
			build: func(f fn, in values) (values, error) {
				return single(f.FusedLayerNorm(in[0], []int{-1}, 1e-5, nil, in[1]))
			}},
		{op: compute.OpTypeFusedDense, inputs: list(f32(3, 4), f32(4, 5), f32(5)),
			attrs: ir.DenseAttrs{Config: compute.DenseConfig{Activation: compute.ActivationRelu}, HasBias: true},
			build: func(f fn, in values) (values, error) {
				return single(f.FusedDense(in[0], in[1], in[2], compute.DenseConfig{Activation: compute.ActivationRelu}))
			}},
		{op: compute.OpTypeFusedAttentionQKVProjection, inputs: list(f32(3, 4), f32(4, 10), f32(2)), attrs: raw(6, 2, false, true, false),
			build: func(f fn, in values) (values, error) {
				q, k, v, err := f.FusedAttentionQKVProjection(in[0], in[1], nil, in[2], nil, 6, 2)
				return values{q, k, v}, err
			}},
		{op: compute.OpTypeFusedQuantizedDense, inputs: list(f32(3, 8), shapes.Make(dtypes.Int8, 8, 4), f32(8, 1), f32(4)),
			attrs: raw(*linear, compute.ActivationNone, true, true, false),
			build: func(f fn, in values) (values, error) {
				q := *linear
				q.Scale = in[2]
				return single(f.FusedQuantizedDense(in[0], in[1], in[3], &q, compute.ActivationNone))
			}},
		{op: compute.OpTypeQuantizedEmbeddingLookup, inputs: list(u8(6, 34), i32(3, 1)), attrs: raw(*ggml, compute.ActivationNone, false, false, false),
			build: func(f fn, in values) (values, error) { return single(f.QuantizedEmbeddingLookup(in[0], in[1], ggml)) }},
	}
	layout, q, kv := compute.AttentionAxesLayoutBHSD, f32(2, 4, 5, 8), f32(2, 2, 7, 8)
	for _, c := range []struct {
		added shapes.Shape
		attrs ir.AttentionAttrs
		put   func(config *compute.ScaledDotProductAttentionConfig, added compute.Value)
	}{
		{flags(5, 7), ir.AttentionAttrs{Layout: layout, Scale: 0.5, Causal: true, HasMask: true},
			func(config *compute.ScaledDotProductAttentionConfig, added compute.Value) { config.Mask = added }},
		{f32(4, 1, 7), ir.AttentionAttrs{Layout: layout, Scale: 0.5, Causal: true, HasBias: true},
			func(config *compute.ScaledDotProductAttentionConfig, added compute.Value) { config.Bias = added }},
	} {
		config := func(in values) *compute.ScaledDotProductAttentionConfig {
			config := &compute.ScaledDotProductAttentionConfig{Scale: 0.5, Causal: true}
			c.put(config, in[3])
			return config
		}
		all = append(all, sample{
			op: compute.OpTypeFusedScaledDotProductAttention, inputs: list(q, kv, kv, c.added), attrs: c.attrs, native: true,
			build: func(f fn, in values) (values, error) {
				out, states, err := f.FusedScaledDotProductAttention(in[0], in[1], in[2], layout, config(in))
				return append(values{out}, states...), err
			},
		}, sample{
			op: compute.OpTypeFusedScaledDotProductAttentionVJP, inputs: list(q, kv, kv, c.added, q, f32(2, 4, 5), q), attrs: c.attrs, native: true,
			build: func(f fn, in values) (values, error) {
				dq, dk, dv, err := f.FusedScaledDotProductAttentionVJP(in[0], in[1], in[2], layout, config(in), in[4], in[5:6], in[6])
				return values{dq, dk, dv}, err
			},
		})
	}
	return all
}

// fill makes values for a shape: numbers from 0.25 to 2, whole ones from 0 to 3.
func fill(shape shapes.Shape, seed uint64) any {
	random := rand.New(rand.NewPCG(seed, uint64(shape.Size())))
	flat := dtypes.MakeAnySlice(shape.DType, shape.Size())
	switch flat := flat.(type) {
	case []float32:
		for i := range flat {
			flat[i] = 0.25 + 1.75*random.Float32()
		}
	case []bfloat16.BFloat16:
		for i := range flat {
			flat[i] = bfloat16.FromFloat32(0.25 + 1.75*random.Float32())
		}
	case []float16.Float16:
		for i := range flat {
			flat[i] = float16.FromFloat32(0.25 + 1.75*random.Float32())
		}
	case []bool:
		for i := range flat {
			flat[i] = random.IntN(2) == 1
		}
	case []int32:
		for i := range flat {
			flat[i] = int32(random.IntN(4))
		}
	default:
		data := dtypes.UnsafeByteSliceFromAny(flat)
		for i := range data {
			data[i] = byte(random.IntN(4))
		}
	}
	return flat
}
