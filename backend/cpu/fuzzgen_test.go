package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/dtypes/float16"
	"github.com/gomlx/compute/shapes"
)

// Random graphs. Every choice is made by a chooser, from a seed or from bytes, so that a graph is a function of either.

// chooser makes choices from bytes, or from a random source where there are none.
type chooser struct {
	rng   *rand.Rand
	bytes []byte
	fixed bool // choices come from bytes: 0 when they are used up
}

// n chooses a number below k.
func (c *chooser) n(k int) int {
	if k <= 1 {
		return 0
	}
	if !c.fixed {
		return c.rng.IntN(k)
	}
	x := 0
	for most := 1; most < k && len(c.bytes) > 0; most *= 256 {
		x = x<<8 | int(c.bytes[0])
		c.bytes = c.bytes[1:]
	}
	return x % k
}

func (c *chooser) over() bool { return c.fixed && len(c.bytes) == 0 }

// one says yes once in k times.
func (c *chooser) one(k int) bool { return c.n(k) == k-1 }

func choose[T any](c *chooser, from ...T) T { return from[c.n(len(from))] }

func (c *chooser) shuffled(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := c.n(i + 1)
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// Styles of graphs.
type style int

const (
	// wild: any values, NaN and Inf among them. Values of sums are not predictable to the bit.
	wild style = iota
	// exact: all values are whole numbers that their types hold, and all operations are exact, so that sums in any order have the
	// same bits (but for the sign of zeros).
	exact
)

// generator makes a graph.
type generator struct {
	*chooser
	style  style
	data   *rand.Rand // values
	graph  *testGraph
	bounds []float64 // of values: the largest absolute value, in exact graphs
	ranges []bool    // of values: whether they are known to be finite

	f     compute.Function // where everything is built at once, for shapes
	built []compute.Value
	most  int // elements of a value

	outer *generator // of closures
	depth int
	loose bool // closures only: no captures
}

// generate makes the graph of a seed, or of bytes if there are any.
func generate(scout compute.Backend, seed uint64, bytes []byte) *testGraph {
	c := &chooser{rng: rand.New(rand.NewPCG(seed, 1)), bytes: bytes, fixed: bytes != nil}
	g := &generator{chooser: c, data: rand.New(rand.NewPCG(seed, 2)), graph: &testGraph{}, f: scout.Builder("scout").Main(), most: 5000}
	if c.one(2) {
		g.style = exact
	}
	target := 3 + c.n(22)
	var base []int
	switch c.n(25) {
	case 0, 1, 2: // around a tile of 2048 elements, and rows around 32
		base = [][]int{{2047}, {2048}, {2049}, {31, 67}, {32, 64}, {33, 62}, {65, 32}, {64, 33}, {67, 31}, {3, 683}}[c.n(10)]
	case 3: // more than 64 tiles, rarely
		base, g.most, target = [][]int{{131072 + 2049}, {4200, 32}, {4201, 33}, {3, 70001}, {70001, 3}, {1030, 130}, {17, 65, 130}}[c.n(7)], 200_000, 3+c.n(8)
	default:
		for range c.n(5) {
			base = append(base, g.dim())
		}
	}
	for range 1 + c.n(3) {
		g.parameter(g.dtype(), base)
	}
	for tries := 0; len(g.graph.vertices) < target && tries < 200 && !c.over(); tries++ {
		g.grow()
	}
	g.choosesOutputs()
	return g.graph
}

func (g *generator) choosesOutputs() {
	for range 1 + g.n(3) {
		g.graph.outputs = append(g.graph.outputs, g.graph.values-1-g.n(min(6, g.graph.values)))
	}
	if g.one(4) {
		g.graph.outputs = append(g.graph.outputs, g.n(g.graph.values))
	}
}

func (g *generator) dim() int {
	if g.one(60) {
		return 0
	}
	return choose(g.chooser, 1, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 32, 33)
}

func (g *generator) dtype() dtypes.DType {
	switch {
	case g.n(10) < 6:
		return dtypes.Float32
	case g.n(4) < 3:
		return choose(g.chooser, dtypes.BFloat16, dtypes.BFloat16, dtypes.Int32, dtypes.Uint32, dtypes.Bool)
	}
	return choose(g.chooser, dtypes.Float64, dtypes.Float16, dtypes.Int64, dtypes.Int8, dtypes.Uint8, dtypes.Int16, dtypes.Uint16, dtypes.Uint64)
}

// add builds a vertex and adds it, unless the go backend refuses it or its outputs are too large.
func (g *generator) add(v *vertex, bound float64) bool {
	if v.shapes == nil {
		out, err := guard(func() ([]compute.Value, error) { return v.build(g.f, pick(g.built, v.in)) })
		if err != nil {
			return false
		}
		for _, x := range out {
			s, err := g.f.Shape(x)
			if err != nil || s.Size() > g.most {
				return false
			}
			v.shapes = append(v.shapes, s)
		}
		if g.outer == nil && len(v.in) > 0 && dead(v) && !g.one(3) {
			return false
		}
		g.built = append(g.built, out...)
	} else {
		for _, s := range v.shapes {
			p, err := g.f.Parameter(fmt.Sprintf("p%d", len(g.built)), s, nil)
			if err != nil {
				return false
			}
			g.built = append(g.built, p)
		}
	}
	g.graph.append(v)
	for range v.shapes {
		g.bounds = append(g.bounds, bound)
		g.ranges = append(g.ranges, false)
	}
	return true
}

func (g *generator) last() int { return g.graph.values - 1 }

func (g *generator) shape(x int) shapes.Shape { return g.graph.shape(x) }

// holds says whether whole numbers up to a bound are exact in a type; for wild graphs everything holds.
func (g *generator) holds(t dtypes.DType, bound float64) bool {
	if g.style != exact {
		return true
	}
	switch t {
	case dtypes.Float32:
		return bound <= 1<<23
	case dtypes.BFloat16:
		return bound <= 256
	case dtypes.Float16:
		return bound <= 2048
	case dtypes.Float64:
		return bound <= 1<<50
	}
	return true // integers wrap around everywhere alike
}

// value chooses a value for which fits is true, later ones more often; -1 if there is none. In closures it may be one of outside.
func (g *generator) value(fits func(s shapes.Shape) bool) int {
	if g.outer != nil && !g.loose && g.one(5) {
		if x := g.outer.value(fits); x >= 0 {
			return g.capture(x)
		}
	}
	var found []int
	for x := range g.graph.values {
		if fits(g.shape(x)) {
			found = append(found, x)
		}
	}
	if len(found) == 0 {
		return -1
	}
	if recent := found[max(0, len(found)-3):]; !g.one(3) {
		return choose(g.chooser, recent...)
	}
	return choose(g.chooser, found...)
}

func (g *generator) capture(x int) int {
	for i, known := range g.graph.captured {
		if known == x {
			for _, v := range g.graph.vertices {
				if v.name == captureName {
					if i == 0 {
						return v.first
					}
					i--
				}
			}
		}
	}
	g.graph.captured = append(g.graph.captured, x)
	g.graph.append(&vertex{name: captureName, shapes: []shapes.Shape{g.outer.shape(x)}})
	g.built = append(g.built, g.outer.built[x])
	g.bounds = append(g.bounds, g.outer.bounds[x])
	g.ranges = append(g.ranges, g.outer.ranges[x])
	return g.last()
}

func isType(types ...dtypes.DType) func(shapes.Shape) bool {
	return func(s shapes.Shape) bool { return slices.Contains(types, s.DType) }
}

func isAny(shapes.Shape) bool { return true }

func floating(s shapes.Shape) bool { return s.DType.IsFloat() }

func integer(s shapes.Shape) bool { return s.DType.IsInt() }

// parameter adds an input, or a constant, which closures have only.
func (g *generator) parameter(t dtypes.DType, dims []int) int {
	shape := shapes.Make(t, dims...)
	if g.outer != nil {
		return g.constant(t, dims)
	}
	flat, bound := g.fill(shape)
	v := &vertex{name: parameterName, shapes: []shapes.Shape{shape}, data: flat}
	if !g.add(v, bound) {
		panic("a parameter of " + shape.String() + " was refused")
	}
	return g.last()
}

func (g *generator) constant(t dtypes.DType, dims []int) int {
	shape := shapes.Make(t, dims...)
	flat, bound := g.fill(shape)
	return g.constantOf(flat, bound, shape.Dimensions...)
}

func (g *generator) constantOf(flat any, bound float64, dims ...int) int {
	ok := g.add(&vertex{name: fmt.Sprintf("Constant[%s]", few(flat)), build: func(f compute.Function, _ []compute.Value) ([]compute.Value, error) {
		return single(f.Constant(flat, dims...))
	}}, bound)
	if !ok {
		panic("a constant was refused: " + few(flat))
	}
	return g.last()
}

// scalar adds a constant of one number.
func (g *generator) scalar(t dtypes.DType, x float64) int {
	return g.constantOf(flatOf(t, []float64{x}), math.Abs(x))
}

// flatOf converts numbers to a type.
func flatOf(t dtypes.DType, from []float64) any {
	out := reflect.MakeSlice(reflect.SliceOf(t.GoType()), len(from), len(from))
	for i, x := range from {
		e := out.Index(i)
		switch {
		case t == dtypes.BFloat16:
			e.Set(reflect.ValueOf(bfloat16.FromFloat32(float32(x))))
		case t == dtypes.Float16:
			e.Set(reflect.ValueOf(float16.FromFloat32(float32(x))))
		case t == dtypes.Bool:
			e.SetBool(x != 0)
		case t.IsFloat():
			e.SetFloat(x)
		case e.CanInt():
			e.SetInt(int64(x))
		default:
			e.SetUint(uint64(int64(x)))
		}
	}
	return out.Interface()
}

// fill makes values of a style.
func (g *generator) fill(shape shapes.Shape) (flat any, bound float64) {
	n, t := shape.Size(), shape.DType
	x := make([]float64, n)
	if g.style == exact {
		bound = float64(1 + g.n(3))
		low, count := -int(bound), int(2*bound)+1
		if t.IsUnsigned() || t == dtypes.Bool {
			low, count = 0, int(bound)+1
		}
		for i := range x {
			x[i] = float64(low + g.data.IntN(count))
		}
		return flatOf(t, x), bound
	}
	kind := g.n(7)
	one := g.data.NormFloat64()
	for i := range x {
		switch {
		case t == dtypes.Bool:
			x[i] = float64(g.data.IntN(2))
		case !t.IsFloat() && kind < 4:
			x[i] = float64(g.data.IntN(11))
			if !t.IsUnsigned() {
				x[i] -= 5
			}
		case !t.IsFloat():
			x[i] = float64(int64(g.data.Uint64() >> 1)) // all bits: the conversion takes the low ones
			if kind == 4 {
				x[i] = choose(&chooser{rng: g.data}, 0.0, 1, -1, math.MinInt32, math.MaxInt32, math.MinInt8, 127, 255, 65535, 1<<31)
			}
		case kind < 3:
			x[i] = g.data.NormFloat64()
		case kind == 3:
			x[i] = 0.1 + 2*g.data.Float64()
		case kind == 4:
			x[i] = one
		case kind == 5:
			x[i] = math.Ldexp(g.data.NormFloat64(), g.data.IntN(250)-140)
		default:
			x[i] = choose(&chooser{rng: g.data}, 0.0, math.Copysign(0, -1), 1, -1, math.Inf(1), math.Inf(-1), math.NaN(), 1e-40, -3e-45, 0x1p-126,
				math.MaxFloat32, -math.MaxFloat32, 0.5, 2.5, -1.5, 88.7, -103.9, 1e-7, g.data.NormFloat64(), g.data.NormFloat64())
		}
	}
	return flatOf(t, x), math.Inf(1)
}

// like returns a value that an element-wise operation can combine with one of the given shape: one that is there, a scalar, one
// with axes of length 1, a broadcast of one, or a new one.
func (g *generator) like(s shapes.Shape) int {
	if g.n(10) < 6 {
		if x := g.value(func(o shapes.Shape) bool { return o.Equal(s) }); x >= 0 {
			return x
		}
	}
	switch g.n(8) {
	case 0:
		if x := g.value(func(o shapes.Shape) bool { return o.DType == s.DType && o.Rank() == 0 }); x >= 0 {
			return x
		}
		return g.parameter(s.DType, nil)
	case 1:
		return g.constant(s.DType, nil)
	case 2: // ones
		dims := slices.Clone(s.Dimensions)
		for i := range dims {
			if g.one(2) && dims[i] > 0 {
				dims[i] = 1
			}
		}
		return g.parameter(s.DType, dims)
	case 3: // a constant or parameter broadcast
		var dims, axes []int
		for i, d := range s.Dimensions {
			if g.one(2) {
				dims, axes = append(dims, d), append(axes, i)
			}
		}
		x := g.value(func(o shapes.Shape) bool { return o.DType == s.DType && slices.Equal(o.Dimensions, dims) })
		if x < 0 {
			if g.one(2) {
				x = g.parameter(s.DType, dims)
			} else {
				x = g.constant(s.DType, dims)
			}
		}
		if g.broadcastTo(x, s.Dimensions, axes) {
			return g.last()
		}
	case 4: // the same number of elements
		if x := g.value(func(o shapes.Shape) bool { return o.DType == s.DType && o.Size() == s.Size() }); x >= 0 {
			if g.reshapeTo(x, s.Dimensions) {
				return g.last()
			}
		}
	}
	return g.parameter(s.DType, s.Dimensions)
}

func (g *generator) simple(name string, in []int, bound float64, build opBuilder) bool {
	return g.add(&vertex{name: name, in: in, build: build}, bound)
}

func (g *generator) broadcastTo(x int, dims, axes []int) bool {
	shape := shapes.Make(g.shape(x).DType, dims...)
	axes = slices.Clone(axes)
	return g.simple(fmt.Sprintf("BroadcastInDim%v", axes), []int{x}, g.bounds[x], func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(f.BroadcastInDim(in[0], shape, axes))
	})
}

func (g *generator) reshapeTo(x int, dims []int) bool {
	dims = slices.Clone(dims)
	return g.simple(fmt.Sprintf("Reshape%v", dims), []int{x}, g.bounds[x], func(f compute.Function, in []compute.Value) ([]compute.Value, error) {
		return single(f.Reshape(in[0], dims...))
	})
}
