package cpu

import (
	"fmt"
	"math"
	"reflect"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// grow adds an operation, or none where the choices do not fit. Element-wise ones are the most frequent.
func (g *generator) grow() bool {
	steps := []struct {
		weight int
		add    func() bool
	}{
		{10, g.unary}, {14, g.binary}, {3, g.compareOp}, {3, g.logical}, {4, g.where}, {2, g.clamp}, {5, g.convert},
		{4, g.reshape}, {4, g.transpose}, {4, g.broadcast}, {4, g.slice}, {2, g.reverse}, {3, g.concatenate}, {3, g.pad}, {2, g.iota},
		{8, g.reduce}, {5, g.rowwise}, {2, g.normalized}, {6, g.dot}, {2, g.gather}, {2, g.scatter}, {2, g.dynamicSlice}, {2, g.softmax},
		{1, g.while}, {1, g.branch}, {1, g.call}, {1, g.several}, {2, g.barriers}, {2, g.repeat}, {2, g.others},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	at := g.n(total)
	for _, s := range steps {
		if at < s.weight {
			return s.add()
		}
		at -= s.weight
	}
	return false
}

type namedUnary struct {
	name  string
	build unaryOp
}

var (
	exactUnary = []namedUnary{
		{"Neg", compute.Function.Neg}, {"Abs", compute.Function.Abs}, {"Sign", compute.Function.Sign}, {"Floor", compute.Function.Floor},
		{"Ceil", compute.Function.Ceil}, {"Round", compute.Function.Round}, {"Identity", compute.Function.Identity},
	}
	functionUnary = []namedUnary{
		{"Exp", compute.Function.Exp}, {"Expm1", compute.Function.Expm1}, {"Log", compute.Function.Log}, {"Log1p", compute.Function.Log1p},
		{"Tanh", compute.Function.Tanh}, {"Logistic", compute.Function.Logistic}, {"Erf", compute.Function.Erf}, {"Sin", compute.Function.Sin},
		{"Cos", compute.Function.Cos}, {"Rsqrt", compute.Function.Rsqrt}, {"Sqrt", compute.Function.Sqrt},
	}
	integerUnary = []namedUnary{
		{"Abs", compute.Function.Abs}, {"Sign", compute.Function.Sign}, {"BitwiseNot", compute.Function.BitwiseNot},
		{"BitCount", compute.Function.BitCount}, {"Clz", compute.Function.Clz}, {"Identity", compute.Function.Identity},
	}
)

func (g *generator) unary() bool {
	x := g.value(func(s shapes.Shape) bool { return s.DType != dtypes.Bool })
	if x < 0 {
		return false
	}
	t := g.shape(x).DType
	op, r, bound := namedUnary{}, exactRule, g.bounds[x]
	switch {
	case !t.IsFloat():
		op = choose(g.chooser, integerUnary...)
		if !t.IsUnsigned() && g.one(3) {
			op = namedUnary{"Neg", compute.Function.Neg}
		}
		bound = math.Inf(1)
	case g.style == exact || g.outer != nil || g.one(3):
		op = choose(g.chooser, exactUnary...)
		switch op.name {
		case "Sign":
			bound = 1
		case "Abs":
			r = zeroRule // the go backend leaves -0 as it is
		}
	default:
		op = choose(g.chooser, functionUnary...)
		if r = roundRule; op.name == "Sqrt" {
			r = exactRule
		}
	}
	return g.add(&vertex{name: op.name, in: []int{x}, rule: r, build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(op.build(f, in[0]))
	}}, bound)
}

type namedBinary struct {
	name  string
	build binaryOp
}

var (
	sums     = []namedBinary{{"Add", compute.Function.Add}, {"Sub", compute.Function.Sub}, {"Mul", compute.Function.Mul}}
	extremes = []namedBinary{{"Max", compute.Function.Max}, {"Min", compute.Function.Min}}
	bitwise  = []namedBinary{{"BitwiseAnd", compute.Function.BitwiseAnd}, {"BitwiseOr", compute.Function.BitwiseOr},
		{"BitwiseXor", compute.Function.BitwiseXor}}
	comparisons = []namedBinary{
		{"Equal", compute.Function.Equal}, {"NotEqual", compute.Function.NotEqual}, {"LessThan", compute.Function.LessThan},
		{"LessOrEqual", compute.Function.LessOrEqual}, {"GreaterThan", compute.Function.GreaterThan},
		{"GreaterOrEqual", compute.Function.GreaterOrEqual},
	}
	logicals = []namedBinary{{"LogicalAnd", compute.Function.LogicalAnd}, {"LogicalOr", compute.Function.LogicalOr},
		{"LogicalXor", compute.Function.LogicalXor}}
	shifts = []namedBinary{{"ShiftLeft", compute.Function.ShiftLeft}, {"ShiftRightArithmetic", compute.Function.ShiftRightArithmetic},
		{"ShiftRightLogical", compute.Function.ShiftRightLogical}}
	floatPairs = []namedBinary{{"Div", compute.Function.Div}, {"Pow", compute.Function.Pow}, {"Rem", compute.Function.Rem}}
)

func (g *generator) two(op namedBinary, x, y int, r rule, bound float64) bool {
	return g.add(&vertex{name: op.name, in: []int{x, y}, rule: r, build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(op.build(f, in[0], in[1]))
	}}, bound)
}

func (g *generator) binary() bool {
	x := g.value(func(s shapes.Shape) bool { return s.DType != dtypes.Bool })
	if x < 0 {
		return false
	}
	t := g.shape(x).DType
	y := g.like(g.shape(x))
	if g.one(3) {
		x, y = y, x
	}
	if !t.IsFloat() {
		return g.integers(x, y)
	}
	op := choose(g.chooser, append(slices.Clone(sums), extremes...)...)
	r, bound := exactRule, max(g.bounds[x], g.bounds[y])
	switch op.name {
	case "Add", "Sub":
		bound = g.bounds[x] + g.bounds[y]
	case "Mul":
		bound = g.bounds[x] * g.bounds[y]
	}
	if g.style == wild && g.outer == nil && g.one(4) {
		op = choose(g.chooser, floatPairs...)
		if op.name == "Pow" && g.one(2) {
			y = g.scalar(t, choose(g.chooser, 2.0, 3, 0.5, -1, 1, 0))
		}
		if op.name == "Pow" {
			r = roundRule
		}
	}
	if !g.holds(t, bound) {
		return false
	}
	return g.two(op, x, y, r, bound)
}

// integers combines integers. Divisors are made odd, as the go backend stops the program at a division by zero, and
// counts of shifts are below the number of bits, as the go backend takes those of signed types as they are in an uint.
func (g *generator) integers(x, y int) bool {
	t := g.shape(x).DType
	inf := math.Inf(1)
	switch g.n(5) {
	case 0, 1:
		op := choose(g.chooser, sums...)
		bound := g.bounds[x] + g.bounds[y]
		if op.name == "Mul" {
			bound = g.bounds[x] * g.bounds[y]
		}
		if bound > 100 || t.IsUnsigned() && op.name == "Sub" {
			bound = inf
		}
		return g.two(op, x, y, exactRule, bound)
	case 2:
		return g.two(choose(g.chooser, extremes...), x, y, exactRule, max(g.bounds[x], g.bounds[y]))
	case 3:
		return g.two(choose(g.chooser, bitwise...), x, y, exactRule, inf)
	}
	if g.one(2) {
		g.two(namedBinary{"BitwiseAnd", compute.Function.BitwiseAnd}, y, g.scalar(t, 7), exactRule, 7)
		return g.two(choose(g.chooser, shifts...), x, g.last(), exactRule, inf)
	}
	g.two(namedBinary{"BitwiseOr", compute.Function.BitwiseOr}, y, g.scalar(t, 1), exactRule, inf)
	op := choose(g.chooser, namedBinary{"Div", compute.Function.Div}, namedBinary{"Rem", compute.Function.Rem})
	return g.two(op, x, g.last(), exactRule, inf)
}

func (g *generator) compareOp() bool {
	x := g.value(func(s shapes.Shape) bool { return s.DType != dtypes.Bool })
	if x < 0 {
		return false
	}
	if floating(g.shape(x)) && g.one(5) {
		op := choose(g.chooser, namedUnary{"IsFinite", compute.Function.IsFinite}, namedUnary{"IsNaN", compute.Function.IsNaN})
		return g.add(&vertex{name: op.name, in: []int{x}, build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(op.build(f, in[0]))
		}}, 1)
	}
	y := g.like(g.shape(x))
	return g.two(choose(g.chooser, comparisons...), x, y, exactRule, 1)
}

func (g *generator) logical() bool {
	x := g.value(isType(dtypes.Bool))
	if x < 0 {
		return g.compareOp()
	}
	if g.one(3) {
		return g.simple("LogicalNot", []int{x}, 1, func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(f.LogicalNot(in[0]))
		})
	}
	y := g.like(g.shape(x))
	return g.two(choose(g.chooser, logicals...), x, y, exactRule, 1)
}

// where has a condition of the result's shape or a scalar, and values of that shape or scalars: what the operation allows.
func (g *generator) where() bool {
	x := g.value(isAny)
	if x < 0 {
		return false
	}
	s := g.shape(x)
	c := g.value(func(o shapes.Shape) bool {
		return o.DType == dtypes.Bool && (o.Rank() == 0 || slices.Equal(o.Dimensions, s.Dimensions))
	})
	if c < 0 {
		dims := s.Dimensions
		if g.one(4) {
			dims = nil
		}
		c = g.parameter(dtypes.Bool, dims)
	}
	y := g.value(func(o shapes.Shape) bool { return o.Equal(s) })
	if y < 0 || g.one(3) {
		y = g.constant(s.DType, nil)
	}
	if g.one(2) {
		x, y = y, x
	}
	return g.simple("Where", []int{c, x, y}, max(g.bounds[x], g.bounds[y]), func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(f.Where(in[0], in[1], in[2]))
	})
}

func (g *generator) clamp() bool {
	x := g.value(func(s shapes.Shape) bool { return s.DType != dtypes.Bool })
	if x < 0 {
		return false
	}
	s := g.shape(x)
	end := func() int {
		if y := g.value(func(o shapes.Shape) bool { return o.Equal(s) }); y >= 0 && g.one(2) {
			return y
		}
		return g.constant(s.DType, nil)
	}
	low, high := end(), end()
	bound := max(g.bounds[x], g.bounds[low], g.bounds[high])
	return g.simple("Clamp", []int{low, x, high}, bound, func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(f.Clamp(in[0], in[1], in[2]))
	})
}

// convert converts to any type. What does not fit an integer type is cut off first: Go leaves the result open.
func (g *generator) convert() bool {
	x := g.value(isAny)
	if x < 0 {
		return false
	}
	from, to := g.shape(x).DType, g.dtype()
	bound := g.bounds[x]
	if from == to || !g.holds(to, bound) {
		return false
	}
	if from.IsFloat() && to.IsInt() {
		if g.style == wild {
			x = g.tamed(x, to)
		} else if to.IsUnsigned() {
			abs := &vertex{name: "Abs", in: []int{x}, rule: zeroRule, build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
				return single(f.Abs(in[0]))
			}}
			if !g.add(abs, bound) {
				return false // negative numbers would remain
			}
			x = g.last()
		}
	}
	return g.convertTo(x, to, bound)
}

func (g *generator) convertTo(x int, to dtypes.DType, bound float64) bool {
	return g.simple(fmt.Sprintf("ConvertDType[%s]", to), []int{x}, bound, func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(f.ConvertDType(in[0], to))
	})
}

// tamed is x with what is not finite replaced by 0, within the range of every integer type.
func (g *generator) tamed(x int, to dtypes.DType) int {
	t := g.shape(x).DType
	low := -100.0
	if to.IsUnsigned() {
		low = 0
	}
	g.simple("IsFinite", []int{x}, 1, func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(f.IsFinite(in[0]))
	})
	finite := g.last()
	zero := g.scalar(t, 0)
	g.simple("Where", []int{finite, x, zero}, 0, func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(f.Where(in[0], in[1], in[2]))
	})
	x = g.last()
	a, b := g.scalar(t, low), g.scalar(t, 100)
	g.simple("Clamp", []int{a, x, b}, 100, func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(f.Clamp(in[0], in[1], in[2]))
	})
	return g.last()
}

// factors splits a number of elements into dimensions.
func (g *generator) factors(n int) []int {
	if n == 0 {
		return []int{g.dim(), 0}
	}
	var dims []int
	for n > 1 && len(dims) < 4 {
		d := 1
		for range 1 + g.n(3) {
			for p := 2; p <= n; p++ {
				if n%p == 0 {
					n, d = n/p, d*p
					break
				}
			}
		}
		dims = append(dims, d)
	}
	if n > 1 {
		dims = append(dims, n)
	}
	for g.one(3) {
		dims = slices.Insert(dims, g.n(len(dims)+1), 1)
	}
	return pick(dims, g.shuffled(len(dims)))
}

func (g *generator) reshape() bool {
	x := g.value(isAny)
	return x >= 0 && g.reshapeTo(x, g.factors(g.shape(x).Size()))
}

func (g *generator) transpose() bool {
	x := g.value(func(s shapes.Shape) bool { return s.Rank() > 1 })
	if x < 0 {
		return false
	}
	return g.transposed(x, g.shuffled(g.shape(x).Rank()))
}

func (g *generator) transposed(x int, permutation []int) bool {
	return g.simple(fmt.Sprintf("Transpose%v", permutation), []int{x}, g.bounds[x], func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(f.Transpose(in[0], permutation...))
	})
}

func (g *generator) broadcast() bool {
	x := g.value(func(s shapes.Shape) bool { return s.Rank() < 4 })
	if x < 0 {
		return false
	}
	var dims, axes []int
	for _, d := range g.shape(x).Dimensions {
		for g.one(3) {
			dims = append(dims, g.dim())
		}
		axes = append(axes, len(dims))
		if d == 1 && g.one(2) {
			d = g.dim()
		}
		dims = append(dims, d)
	}
	for g.one(3) {
		dims = append(dims, g.dim())
	}
	return g.broadcastTo(x, dims, axes)
}

func (g *generator) slice() bool {
	x := g.value(func(s shapes.Shape) bool { return s.Rank() > 0 })
	if x < 0 {
		return false
	}
	var starts, limits, strides []int
	for _, d := range g.shape(x).Dimensions {
		start, limit, stride := 0, d, 1
		if g.one(2) && d > 0 {
			start = g.n(d)
			limit = start + 1 + g.n(d-start)
			if g.one(3) {
				stride = 1 + g.n(3)
			}
		}
		starts, limits, strides = append(starts, start), append(limits, limit), append(strides, stride)
	}
	return g.simple(fmt.Sprintf("Slice%v%v%v", starts, limits, strides), []int{x}, g.bounds[x],
		func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(f.Slice(in[0], starts, limits, strides))
		})
}

// axes chooses some axes.
func (g *generator) axes(rank int) (out []int) {
	for i := range rank {
		if g.one(2) {
			out = append(out, i)
		}
	}
	return out
}

func (g *generator) reverse() bool {
	x := g.value(func(s shapes.Shape) bool { return s.Rank() > 0 })
	if x < 0 {
		return false
	}
	axes := g.axes(g.shape(x).Rank())
	if len(axes) == 0 {
		axes = []int{0}
	}
	return g.simple(fmt.Sprintf("Reverse%v", axes), []int{x}, g.bounds[x], func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(f.Reverse(in[0], axes...))
	})
}

func (g *generator) concatenate() bool {
	x := g.value(func(s shapes.Shape) bool { return s.Rank() > 0 })
	if x < 0 {
		return false
	}
	s := g.shape(x)
	axis := g.n(s.Rank())
	in, bound := []int{x}, g.bounds[x]
	for range 1 + g.n(3) {
		y := g.value(func(o shapes.Shape) bool {
			if o.DType != s.DType || o.Rank() != s.Rank() {
				return false
			}
			a, b := slices.Clone(o.Dimensions), slices.Clone(s.Dimensions)
			a[axis], b[axis] = 0, 0
			return slices.Equal(a, b)
		})
		in, bound = append(in, y), max(bound, g.bounds[y])
	}
	in = pick(in, g.shuffled(len(in)))
	return g.simple(fmt.Sprintf("Concatenate[%d]", axis), in, bound, func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(f.Concatenate(axis, in...))
	})
}

func (g *generator) pad() bool {
	x := g.value(func(s shapes.Shape) bool { return s.Rank() > 0 })
	if x < 0 {
		return false
	}
	s := g.shape(x)
	axes := make([]compute.PadAxis, s.Rank())
	for i, d := range s.Dimensions {
		if g.one(2) {
			continue
		}
		a := compute.PadAxis{Start: g.n(4), End: g.n(4)}
		if g.one(3) {
			a.Interior = g.n(3)
		}
		if g.one(2) {
			a.Start = -g.n(d + 1)
		}
		if g.one(2) {
			a.End = -g.n(d + 1)
		}
		if d+a.Start+a.End+max(0, d-1)*a.Interior < 0 {
			continue
		}
		axes[i] = a
	}
	fill := g.value(func(o shapes.Shape) bool { return o.DType == s.DType && o.Rank() == 0 })
	if fill < 0 {
		fill = g.constant(s.DType, nil)
	}
	negative := slices.ContainsFunc(axes, func(a compute.PadAxis) bool { return a.Start < 0 || a.End < 0 })
	if negative && g.outer != nil {
		return false
	}
	v := &vertex{name: fmt.Sprintf("Pad%v", axes), in: []int{x, fill},
		build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(f.Pad(in[0], in[1], axes...))
		}}
	if negative { // the go backend writes beyond the output
		v.host = func(in []tensor) []tensor { return []tensor{padded(in[0], in[1], v.shapes[0], axes)} }
	}
	return g.add(v, max(g.bounds[x], g.bounds[fill]))
}

// padded is x within a shape full of fill.
func padded(x, fill tensor, shape shapes.Shape, axes []compute.PadAxis) tensor {
	out := reflect.ValueOf(dtypes.MakeAnySlice(shape.DType, shape.Size()))
	from := reflect.ValueOf(x.flat)
	for i := range out.Len() {
		out.Index(i).Set(reflect.ValueOf(fill.flat).Index(0))
	}
	for i := range from.Len() {
		at, stride, rest, inside := 0, 1, i, true
		for k := len(axes) - 1; k >= 0; k-- {
			place := axes[k].Start + rest%x.shape.Dimensions[k]*(axes[k].Interior+1)
			inside = inside && place >= 0 && place < shape.Dimensions[k]
			at += place * stride
			stride *= shape.Dimensions[k]
			rest /= x.shape.Dimensions[k]
		}
		if inside {
			out.Index(at).Set(from.Index(i))
		}
	}
	return tensor{shape, out.Interface()}
}

func (g *generator) iota() bool {
	t := g.dtype()
	var dims []int
	for range 1 + g.n(3) {
		dims = append(dims, g.dim())
	}
	if x := g.value(func(s shapes.Shape) bool { return s.Rank() > 0 }); x >= 0 && g.one(2) {
		dims = g.shape(x).Dimensions
	}
	axis := g.n(len(dims))
	shape := shapes.Make(t, dims...)
	if t == dtypes.Bool || !g.holds(t, float64(dims[axis])) {
		return false
	}
	return g.simple(fmt.Sprintf("Iota[%d]", axis), nil, float64(dims[axis]), func(f compute.Function, _ []compute.Value) ([]compute.Value, error) {
		return single(f.Iota(shape, axis))
	})
}

// barriers are of one kind or the other.
func (g *generator) barriers() bool {
	x := g.value(isAny)
	if x < 0 || g.outer != nil { // the go backend computes closures with barriers in a wrong order
		return false
	}
	y := g.value(isAny)
	if g.one(2) {
		return g.simple("SchedulingBarrier", []int{x, y}, g.bounds[x], func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(f.SchedulingBarrier(in[0], in[1]))
		})
	}
	return g.add(&vertex{name: "OptimizationBarrier", in: []int{x, y}, build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return f.OptimizationBarrier(in...)
	}}, max(g.bounds[x], g.bounds[y]))
}

// repeat adds an operation once more.
func (g *generator) repeat() bool {
	v := choose(g.chooser, g.graph.vertices...)
	if v.name == parameterName || v.name == captureName {
		return false
	}
	again := *v
	if again.host == nil {
		again.shapes = nil
	}
	return g.add(&again, g.bounds[v.first])
}
