package cpu

import (
	"fmt"
	"math"
	"reflect"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/dtypes/float16"
	"github.com/gomlx/compute/shapes"
)

// Reductions, products, indexed operations and functions of random graphs.

type namedReduce struct {
	name  string
	build reduceOp
}

var (
	reduceSum     = namedReduce{"ReduceSum", compute.Function.ReduceSum}
	reduceEnds    = []namedReduce{{"ReduceMax", compute.Function.ReduceMax}, {"ReduceMin", compute.Function.ReduceMin}}
	reduceBitwise = []namedReduce{{"ReduceBitwiseAnd", compute.Function.ReduceBitwiseAnd}, {"ReduceBitwiseOr", compute.Function.ReduceBitwiseOr},
		{"ReduceBitwiseXor", compute.Function.ReduceBitwiseXor}}
	reduceBools = []namedReduce{{"ReduceLogicalAnd", compute.Function.ReduceLogicalAnd}, {"ReduceLogicalOr", compute.Function.ReduceLogicalOr},
		{"ReduceLogicalXor", compute.Function.ReduceLogicalXor}}
)

func (g *generator) reduce() bool {
	x := g.value(func(s shapes.Shape) bool { return s.Rank() > 0 })
	if x < 0 {
		return false
	}
	axes := g.axes(g.shape(x).Rank())
	if len(axes) == 0 {
		axes = []int{g.n(g.shape(x).Rank())}
	}
	return g.reduced(x, axes)
}

// reduced reduces axes by any operation that x has.
func (g *generator) reduced(x int, axes []int) bool {
	switch t := g.shape(x).DType; {
	case t == dtypes.Bool:
		return g.reducedBy(choose(g.chooser, reduceBools...), x, axes)
	case t.IsInt() && g.one(3):
		return g.reducedBy(choose(g.chooser, reduceBitwise...), x, axes)
	case g.n(8) == 7 && g.style == wild:
		return g.reducedBy(namedReduce{"ReduceProduct", compute.Function.ReduceProduct}, x, axes)
	case g.one(2):
		return g.reducedBy(choose(g.chooser, reduceEnds...), x, axes)
	}
	return g.reducedBy(reduceSum, x, axes)
}

func (g *generator) reducedBy(op namedReduce, x int, axes []int) bool {
	s := g.shape(x)
	bound := g.bounds[x]
	terms := 1
	for _, a := range axes {
		if a >= s.Rank() {
			return false
		}
		terms *= s.Dimensions[a]
	}
	build := func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(op.build(f, in[0], axes...))
	}
	v := &vertex{name: fmt.Sprintf("%s%v", op.name, axes), in: []int{x}, build: build, terms: terms}
	switch {
	case op.name != "ReduceSum":
	case s.DType.IsInt():
		bound = math.Inf(1)
	default:
		bound *= float64(terms)
		if !g.markSum(v, s.DType, bound) {
			return false
		}
		v.sum64 = build
	}
	return g.add(v, bound)
}

// markSum makes a vertex a sum of floats, if that may be here.
func (g *generator) markSum(v *vertex, t dtypes.DType, bound float64) bool {
	switch {
	case g.style == exact:
		v.rule = zeroRule
		return v.terms > 0 && g.holds(t, bound)
	case g.outer != nil:
		return false // errors would go through further operations
	case t == dtypes.Float16:
		return true // the go backend's own
	}
	v.rule, v.cut = sumRule, true
	v.emptySum()
	return true
}

// emptySum gives a sum of nothing its zeros: the go backend stops at some of these.
func (v *vertex) emptySum() {
	if v.terms == 0 {
		v.host = func([]tensor) []tensor {
			s := v.shapes[0]
			return []tensor{{s, dtypes.MakeAnySlice(s.DType, s.Size())}}
		}
	}
}

// spread adds a broadcast of x, reduced over axes of a shape, back to the shape.
func (g *generator) spread(x int, s shapes.Shape, axes []int) bool {
	var kept []int
	for i := range s.Rank() {
		if !slices.Contains(axes, i) {
			kept = append(kept, i)
		}
	}
	if g.one(3) { // by way of axes of length 1
		dims := slices.Clone(s.Dimensions)
		for _, a := range axes {
			dims[a] = 1
		}
		if !g.reshapeTo(x, dims) || g.one(2) {
			return true // implicit broadcasting does the rest
		}
		x, kept = g.last(), g.inOrder(s.Rank())
	}
	return g.broadcastTo(x, s.Dimensions, kept)
}

func (g *generator) inOrder(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// border chooses axes at one end.
func (g *generator) border(rank int) []int {
	n := 1 + g.n(rank)
	if g.one(3) {
		return g.inOrder(n)
	}
	return g.inOrder(rank)[rank-n:]
}

// rowwise combines a value with its reduction over some axes.
func (g *generator) rowwise() bool {
	x := g.value(func(s shapes.Shape) bool { return s.Rank() > 0 && s.DType != dtypes.Bool && s.Size() > 0 })
	if x < 0 {
		return false
	}
	s := g.shape(x)
	axes := g.border(s.Rank())
	if !g.reduced(x, axes) || !g.spread(g.last(), s, axes) {
		return false
	}
	y := g.last()
	if g.shape(y).DType != s.DType {
		return false
	}
	bound := g.bounds[x] + g.bounds[y]
	if !g.holds(s.DType, bound) {
		return false
	}
	op := choose(g.chooser, sums[0], sums[1], extremes[0], extremes[1])
	if s.DType.IsUnsigned() {
		bound = math.Inf(1)
	}
	return g.two(op, x, y, exactRule, bound)
}

// normalized adds what models do with rows: softmax, norms, gates.
func (g *generator) normalized() bool {
	x := g.value(func(s shapes.Shape) bool {
		return s.Rank() > 0 && s.Size() > 0 && (s.DType == dtypes.Float32 || s.DType == dtypes.BFloat16)
	})
	if x < 0 || g.style == exact || g.outer != nil {
		return false
	}
	s := g.shape(x)
	axes := g.border(s.Rank())
	by := func(op namedBinary, a, b int) int { g.two(op, a, b, exactRule, math.Inf(1)); return g.last() }
	of := func(name string, build unaryOp, r rule, a int) int {
		g.add(&vertex{name: name, in: []int{a}, rule: r, build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(build(f, in[0]))
		}}, math.Inf(1))
		return g.last()
	}
	rows := func(op namedReduce, a int) int {
		g.reducedBy(op, a, axes)
		g.broadcastTo(g.last(), s.Dimensions, without(g.inOrder(s.Rank()), axes))
		return g.last()
	}
	div, sub, mul := floatPairs[0], sums[1], sums[2]
	switch g.n(4) {
	case 0: // softmax and its logarithm
		shifted := by(sub, x, rows(reduceEnds[0], x))
		e := of("Exp", compute.Function.Exp, roundRule, shifted)
		total := rows(reduceSum, e)
		by(div, e, total)
		by(sub, shifted, of("Log", compute.Function.Log, roundRule, total))
	case 1: // root mean square
		n := 1.0
		for _, a := range axes {
			n *= float64(s.Dimensions[a])
		}
		mean := by(div, rows(reduceSum, by(mul, x, x)), g.scalar(s.DType, n))
		scale := of("Rsqrt", compute.Function.Rsqrt, roundRule, by(sums[0], mean, g.scalar(s.DType, 1e-5)))
		y := by(mul, x, scale)
		by(mul, y, g.like(s))
		by(mul, scale, rows(reduceSum, by(mul, y, g.like(s)))) // as its gradient
	case 2: // around the mean
		centred := by(sub, x, rows(reduceSum, x))
		by(mul, centred, rows(reduceSum, by(mul, centred, centred)))
	default: // a gate
		gate := by(mul, x, of("Logistic", compute.Function.Logistic, roundRule, x))
		by(mul, gate, g.like(s))
	}
	return true
}

func without(all, some []int) (out []int) {
	for _, a := range all {
		if !slices.Contains(some, a) {
			out = append(out, a)
		}
	}
	return out
}

// dot multiplies a value by another: batch, contracted and other axes in any order.
func (g *generator) dot() bool {
	x := g.value(func(s shapes.Shape) bool { return s.DType != dtypes.Bool && s.Rank() <= 4 })
	if x < 0 {
		return false
	}
	s := g.shape(x)
	t := s.DType
	var a struct{ lc, lb, rc, rb []int }
	var dims []int // of the right operand: batch, contracted, others
	terms := 1
	for _, axis := range g.shuffled(s.Rank()) {
		switch g.n(3) {
		case 0:
			a.lb = append(a.lb, axis)
		case 1:
			a.lc = append(a.lc, axis)
			terms *= s.Dimensions[axis]
		}
	}
	for _, axis := range slices.Concat(a.lb, a.lc) {
		dims = append(dims, s.Dimensions[axis])
	}
	for range g.n(3) {
		dims = append(dims, g.dim())
	}
	if shapes.Make(t, dims...).Size() > 100_000 {
		return false
	}
	order := g.shuffled(len(dims)) // axis order[i] of dims is axis i of the operand
	place := make([]int, len(dims))
	for i, o := range order {
		place[o] = i
	}
	a.rb, a.rc = place[:len(a.lb)], place[len(a.lb):len(a.lb)+len(a.lc)]
	y := g.rightOperand(x, shapes.Make(t, pick(dims, order)...))
	if g.one(6) { // x by itself
		y, a.rb, a.rc = x, a.lb, a.lc
	}
	var config compute.DotGeneralConfig
	if t == dtypes.BFloat16 && g.one(2) {
		config.AccumulatorDType = dtypes.Float32
		config.OutputDType = choose(g.chooser, dtypes.Float32, dtypes.BFloat16)
	}
	build := func(config compute.DotGeneralConfig) opBuilder {
		return func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(f.DotGeneral(in[0], slices.Clone(a.lc), slices.Clone(a.lb), in[1], slices.Clone(a.rc), slices.Clone(a.rb), config))
		}
	}
	bound := g.bounds[x] * g.bounds[y] * float64(terms)
	v := &vertex{name: fmt.Sprintf("DotGeneral%v", a), in: []int{x, y}, build: build(config), terms: terms}
	if t.IsFloat() {
		if !g.markSum(v, t, bound) {
			return false
		}
		v.sum64 = build(compute.DotGeneralConfig{})
	} else {
		v.emptySum()
		bound = math.Inf(1)
	}
	if g.shape(x).Size()*max(1, g.shape(y).Size()) > 40_000_000 {
		return false
	}
	return g.add(v, bound)
}

// rightOperand is of a shape: a new value, the reshape of another, or a broadcast of one number or of some axes.
func (g *generator) rightOperand(x int, s shapes.Shape) int {
	switch g.n(6) {
	case 0:
		if y := g.value(func(o shapes.Shape) bool { return o.DType == s.DType && o.Size() == s.Size() && o.Size() > 0 }); y >= 0 {
			if g.reshapeTo(y, s.Dimensions) {
				return g.last()
			}
		}
	case 1:
		one := g.constant(s.DType, nil)
		if g.broadcastTo(one, s.Dimensions, nil) {
			return g.last()
		}
	case 2:
		return g.like(s)
	}
	return g.parameter(s.DType, s.Dimensions)
}

// indices adds integers from low to high.
func (g *generator) indices(dims []int, low, high int) int {
	t := choose(g.chooser, dtypes.Int32, dtypes.Int32, dtypes.Int64, dtypes.Uint32, dtypes.Uint8, dtypes.Int8, dtypes.Int16, dtypes.Uint16, dtypes.Uint64)
	if t.IsUnsigned() {
		low = max(low, 0)
	}
	most := 30000
	if t == dtypes.Uint8 || t == dtypes.Int8 {
		most = 127
	}
	high = max(low, min(high, most))
	x := make([]float64, shapes.Make(t, dims...).Size())
	for i := range x {
		x[i] = float64(low + g.data.IntN(high-low+1))
	}
	flat := flatOf(t, x)
	if g.outer != nil || g.one(4) {
		return g.constantOf(flat, float64(max(high, -low)), dims...)
	}
	g.add(&vertex{name: parameterName, shapes: []shapes.Shape{shapes.Make(t, dims...)}, data: flat}, float64(max(high, -low)))
	return g.last()
}

// gather takes windows at indices that may lie outside: those are moved inside.
func (g *generator) gather() bool {
	x := g.value(func(s shapes.Shape) bool { return s.Rank() > 0 && s.Size() > 0 })
	if x < 0 {
		return false
	}
	s := g.shape(x)
	indexed := g.shuffled(s.Rank())[:1+g.n(s.Rank())]
	sizes := slices.Clone(s.Dimensions)
	var collapsed []int
	low, high := -2, 2
	for axis := range sizes {
		if slices.Contains(indexed, axis) || g.one(3) {
			sizes[axis] = 1 + g.n(s.Dimensions[axis])
			if g.one(2) {
				sizes[axis] = 1
			}
			high = max(high, s.Dimensions[axis]+1)
		}
		if sizes[axis] == 1 && g.one(2) {
			collapsed = append(collapsed, axis)
		}
	}
	var batch []int
	for range g.n(3) {
		batch = append(batch, 1+g.n(6))
	}
	vector := len(batch)
	dims := batch
	if len(indexed) > 1 || g.one(2) {
		vector = g.n(len(batch) + 1)
		dims = slices.Insert(slices.Clone(batch), vector, len(indexed))
	}
	offsets := len(sizes) - len(collapsed)
	outputAxes := slices.Sorted(slices.Values(g.shuffled(len(batch) + offsets)[:offsets]))
	i := g.indices(dims, low, high)
	name := fmt.Sprintf("Gather[vector %d outputs %v collapsed %v map %v sizes %v]", vector, outputAxes, collapsed, indexed, sizes)
	return g.simple(name, []int{x, i}, g.bounds[x], func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(f.Gather(in[0], in[1], vector, slices.Clone(outputAxes), slices.Clone(collapsed), slices.Clone(indexed),
			slices.Clone(sizes), false))
	})
}

// scatter combines windows at indices that lie within: what happens to others is not the same in both backends.
func (g *generator) scatter() bool {
	x := g.value(func(s shapes.Shape) bool { return s.Rank() > 0 && s.Size() > 0 && s.DType != dtypes.Bool })
	if x < 0 {
		return false
	}
	s := g.shape(x)
	indexed := g.shuffled(s.Rank())[:1+g.n(s.Rank())]
	high := math.MaxInt
	var inserted, window []int
	for axis, d := range s.Dimensions {
		size := d
		if slices.Contains(indexed, axis) {
			size = 1
			if g.one(3) {
				size = 1 + g.n(d)
			}
			high = min(high, d-size)
		}
		if size == 1 && g.one(2) {
			inserted = append(inserted, axis)
			continue
		}
		window = append(window, size)
	}
	var batch []int
	for range g.n(3) {
		batch = append(batch, 1+g.n(6))
	}
	vector := len(batch)
	dims := batch
	if len(indexed) > 1 || g.one(2) {
		vector = g.n(len(batch) + 1)
		dims = slices.Insert(slices.Clone(batch), vector, len(indexed))
	}
	rank := len(batch) + len(window)
	windowAxes := slices.Sorted(slices.Values(g.shuffled(rank)[:len(window)]))
	updates := make([]int, rank)
	b, w := batch, window
	for axis := range updates {
		if slices.Contains(windowAxes, axis) {
			updates[axis], w = w[0], w[1:]
		} else {
			updates[axis], b = b[0], b[1:]
		}
	}
	i := g.indices(dims, 0, high)
	u := g.parameter(s.DType, updates)
	if g.style == exact && g.one(2) {
		u = g.like(shapes.Make(s.DType, updates...))
		if g.shape(u).Rank() != rank || !slices.Equal(g.shape(u).Dimensions, updates) {
			return false
		}
	}
	count := float64(shapes.Make(dtypes.Bool, batch...).Size())
	op := g.n(3)
	bound := max(g.bounds[x], g.bounds[u])
	if op == 0 {
		bound = g.bounds[x] + g.bounds[u]*count
	}
	if s.DType.IsInt() {
		bound = math.Inf(1)
	}
	if !g.holds(s.DType, bound) {
		return false
	}
	method := []scatterOp{compute.Function.ScatterSum, compute.Function.ScatterMax, compute.Function.ScatterMin}[op]
	name := fmt.Sprintf("Scatter%s[vector %d window %v inserted %v map %v]", []string{"Sum", "Max", "Min"}[op], vector, windowAxes, inserted, indexed)
	if g.outer != nil {
		return false
	}
	// The go backend loses its way in windows that are not whole axes.
	how := scattering{vector, windowAxes, inserted, indexed, op}
	return g.add(&vertex{name: name, in: []int{x, i, u}, shapes: []shapes.Shape{s},
		host: func(in []tensor) []tensor { return []tensor{how.scattered(in[0], in[1], in[2])} },
		build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(method(f, in[0], in[1], in[2], vector, slices.Clone(windowAxes), slices.Clone(inserted), slices.Clone(indexed), false, false))
		}}, bound)
}

// scattering is the arguments of a scatter; op is 0 for sums, 1 for the larger and 2 for the smaller.
type scattering struct {
	vector                      int
	windows, inserted, operands []int
	op                          int
}

// scattered is x combined with updates, one element after another.
func (w scattering) scattered(x, indices, updates tensor) tensor {
	out := reflect.ValueOf(dtypes.MakeAnySlice(x.shape.DType, x.shape.Size()))
	reflect.Copy(out, reflect.ValueOf(x.flat))
	u := reflect.ValueOf(updates.flat)
	// One index vector after another: in which order elements are added is part of the result.
	positions := make([][]int, u.Len())
	for i := range positions {
		positions[i] = make([]int, updates.shape.Rank())
		for k, rest := updates.shape.Rank()-1, i; k >= 0; k-- {
			positions[i][k] = rest % updates.shape.Dimensions[k]
			rest /= updates.shape.Dimensions[k]
		}
	}
	slices.SortStableFunc(positions, func(a, b []int) int {
		for axis := range a {
			if a[axis] != b[axis] && !slices.Contains(w.windows, axis) {
				return a[axis] - b[axis]
			}
		}
		return 0
	})
	for _, position := range positions {
		var batch []int
		at := make([]int, x.shape.Rank())
		window := w.windows
		for axis := range at {
			if !slices.Contains(w.inserted, axis) {
				at[axis] = position[window[0]]
				window = window[1:]
			}
		}
		for axis, p := range position {
			if !slices.Contains(w.windows, axis) {
				batch = append(batch, p)
			}
		}
		for c, axis := range w.operands {
			full := batch
			if w.vector < indices.shape.Rank() {
				full = slices.Insert(slices.Clone(batch), w.vector, c)
			}
			v := reflect.ValueOf(indices.flat).Index(flatten(full, indices.shape.Dimensions))
			if v.CanInt() {
				at[axis] += int(v.Int())
			} else {
				at[axis] += int(v.Uint())
			}
		}
		e := out.Index(flatten(at, x.shape.Dimensions))
		e.Set(w.combine(e, u.Index(flatten(position, updates.shape.Dimensions))))
	}
	return tensor{x.shape, out.Interface()}
}

func flatten(index, dims []int) int {
	at := 0
	for i, d := range dims {
		at = at*d + index[i]
	}
	return at
}

func (w scattering) combine(a, b reflect.Value) reflect.Value {
	out := reflect.New(a.Type()).Elem()
	switch x := a.Interface().(type) {
	case float32:
		out.SetFloat(float64(combined(w.op, x, b.Interface().(float32))))
	case float64:
		out.SetFloat(combined(w.op, x, b.Interface().(float64)))
	case bfloat16.BFloat16:
		out.Set(reflect.ValueOf(bfloat16.FromFloat32(combined(w.op, x.Float32(), b.Interface().(bfloat16.BFloat16).Float32()))))
	case float16.Float16:
		out.Set(reflect.ValueOf(float16.FromFloat32(combined(w.op, x.Float32(), b.Interface().(float16.Float16).Float32()))))
	default:
		if a.CanInt() {
			out.SetInt(combined(w.op, a.Int(), b.Int())) // the low bits
		} else {
			out.SetUint(combined(w.op, a.Uint(), b.Uint()))
		}
	}
	return out
}

func combined[T float32 | float64 | int64 | uint64](op int, a, b T) T {
	switch op {
	case 1:
		return max(a, b)
	case 2:
		return min(a, b)
	}
	return a + b
}

// dynamicSlice reads or writes a window at indices that may lie outside. The go backend has neither: host does it.
func (g *generator) dynamicSlice() bool {
	x := g.value(func(s shapes.Shape) bool { return s.Rank() > 0 && s.Size() > 0 })
	if x < 0 || g.outer != nil {
		return false
	}
	s := g.shape(x)
	sizes := make([]int, s.Rank())
	in := []int{x}
	for i, d := range s.Dimensions {
		sizes[i] = d
		if g.one(2) {
			sizes[i] = 1 + g.n(d)
		}
	}
	update := g.one(2)
	bound := g.bounds[x]
	if update {
		u := g.parameter(s.DType, sizes)
		if y := g.value(func(o shapes.Shape) bool { return o.DType == s.DType && slices.Equal(o.Dimensions, sizes) }); y >= 0 {
			u = y
		}
		in = append(in, u)
		bound = max(bound, g.bounds[u])
	}
	var t dtypes.DType
	for i, d := range s.Dimensions {
		start := g.indices(nil, -2, d+1)
		if g.shape(start).DType == dtypes.Uint64 { // not implemented
			return false
		}
		if i > 0 && g.shape(start).DType != t {
			g.convertTo(start, t, 0)
			start = g.last()
		}
		t = g.shape(start).DType
		in = append(in, start)
	}
	v := &vertex{name: fmt.Sprintf("DynamicSlice%v", sizes), in: in, shapes: []shapes.Shape{shapes.Make(s.DType, sizes...)},
		build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(f.DynamicSlice(in[0], in[1:], slices.Clone(sizes)))
		},
		host: func(in []tensor) []tensor { return []tensor{window(in[0], nil, in[1:], sizes)} }}
	if update {
		v.name, v.shapes = "DynamicUpdateSlice", []shapes.Shape{s}
		v.build = func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(f.DynamicUpdateSlice(in[0], in[1], in[2:]))
		}
		v.host = func(in []tensor) []tensor { return []tensor{window(in[0], &in[1], in[2:], sizes)} }
	}
	return g.add(v, bound)
}

// window is the window of x at starts, moved inside, or x with that replaced by update.
func window(x tensor, update *tensor, starts []tensor, sizes []int) tensor {
	dims := x.shape.Dimensions
	from := make([]int, len(dims))
	for i, s := range starts {
		v := reflect.ValueOf(s.flat).Index(0)
		if v.CanInt() {
			from[i] = int(v.Int())
		} else {
			from[i] = int(min(v.Uint(), 1<<40))
		}
		from[i] = min(max(from[i], 0), dims[i]-sizes[i])
	}
	source := reflect.ValueOf(x.flat)
	out := reflect.ValueOf(dtypes.MakeAnySlice(x.shape.DType, shapes.Make(x.shape.DType, sizes...).Size()))
	result := tensor{shapes.Make(x.shape.DType, sizes...), out.Interface()}
	if update != nil {
		whole := reflect.ValueOf(dtypes.MakeAnySlice(x.shape.DType, x.shape.Size()))
		reflect.Copy(whole, source)
		result, source = tensor{x.shape, whole.Interface()}, whole
		out = reflect.ValueOf(update.flat)
	}
	for i := range out.Len() {
		at, stride, rest := 0, 1, i
		for k := len(dims) - 1; k >= 0; k-- {
			at += (from[k] + rest%sizes[k]) * stride
			stride *= dims[k]
			rest /= sizes[k]
		}
		if update != nil {
			source.Index(at).Set(out.Index(i))
		} else {
			out.Index(i).Set(source.Index(at))
		}
	}
	return result
}

func (g *generator) softmax() bool {
	x := g.value(func(s shapes.Shape) bool { return s.Rank() > 0 && s.Size() > 0 && floating(s) })
	if x < 0 || g.style == exact || g.outer != nil || g.shape(x).DType == dtypes.Float16 { // no backend has that of float16
		return false
	}
	axis, t := g.n(g.shape(x).Rank()), g.shape(x).DType
	v := &vertex{name: fmt.Sprintf("FusedSoftmax[%d]", axis), in: []int{x}, cut: true,
		build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(f.FusedSoftmax(in[0], axis))
		}}
	if t != dtypes.Float64 {
		v.rule = weightRule
		v.other = func(f compute.Function, in []compute.Value) ([]compute.Value, error) { // the go backend's flushes small results to 0
			wide, err := f.ConvertDType(in[0], dtypes.Float64)
			if err != nil {
				return nil, err
			}
			y, err := f.FusedSoftmax(wide, axis)
			if err != nil {
				return nil, err
			}
			return single(f.ConvertDType(y, t))
		}
	}
	return g.add(v, 1)
}

// others are operations that go through the go backend.
func (g *generator) others() bool {
	switch g.n(3) {
	case 0:
		x := g.value(func(s shapes.Shape) bool {
			return s.Rank() > 0 && s.Size() > 0 && s.DType != dtypes.Bool && s.DType != dtypes.Float16
		})
		if x < 0 {
			return false
		}
		axis, least := g.n(g.shape(x).Rank()), g.one(2)
		return g.simple(fmt.Sprintf("ArgMinMax[%d %v]", axis, least), []int{x}, float64(g.shape(x).Dimensions[axis]),
			func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
				return single(f.ArgMinMax(in[0], axis, dtypes.Int32, least))
			})
	case 1:
		x := g.value(func(s shapes.Shape) bool { return integer(s) && s.Size() > 0 })
		if x < 0 {
			return false
		}
		to := choose(g.chooser, dtypes.Int32, dtypes.Uint32, dtypes.Int16, dtypes.Uint8, dtypes.Int64)
		return g.simple(fmt.Sprintf("Bitcast[%s]", to), []int{x}, math.Inf(1), func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
			return single(f.Bitcast(in[0], to))
		})
	}
	x := g.value(func(s shapes.Shape) bool { return s.DType == dtypes.Float32 && s.Rank() > 0 && s.Size() > 0 })
	if x < 0 || g.style == exact || g.outer != nil {
		return false
	}
	kind := g.n(2)
	return g.add(&vertex{name: fmt.Sprintf("FusedGelu[%v]", kind == 0), in: []int{x}, cut: true, build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(f.FusedGelu(in[0], kind == 0))
	}}, math.Inf(1))
}

// several adds an operation with several outputs: a sort of two values.
func (g *generator) several() bool {
	x := g.value(func(s shapes.Shape) bool { return s.Rank() > 0 && s.Size() > 0 && s.DType == dtypes.Int32 })
	if x < 0 {
		x = g.parameter(dtypes.Int32, []int{1 + g.n(5), 1 + g.n(9)})
	}
	y := g.value(func(s shapes.Shape) bool { return slices.Equal(s.Dimensions, g.shape(x).Dimensions) })
	axis := g.n(g.shape(x).Rank())
	return g.add(&vertex{name: fmt.Sprintf("Sort[%d]", axis), in: []int{x, y}, build: func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		comparator, err := f.Closure()
		if err != nil {
			return nil, err
		}
		var p [4]compute.Value
		for i := range p {
			s, err := f.Shape(in[i/2])
			if err != nil {
				return nil, err
			}
			if p[i], err = comparator.Parameter(fmt.Sprintf("c%d", i), shapes.Make(s.DType), nil); err != nil {
				return nil, err
			}
		}
		less, err := comparator.LessThan(p[0], p[1])
		if err != nil {
			return nil, err
		}
		if err := comparator.Return([]compute.Value{less}, nil); err != nil {
			return nil, err
		}
		return f.Sort(comparator, axis, true, in...)
	}}, math.Inf(1))
}
