package cpu

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/dtypes/float16"
	"github.com/gomlx/compute/shapes"
)

const (
	// functionUlps bounds functions of float32: kernel/vector allows 3 ulp, the go backend rounds math's result (0.5).
	functionUlps = 4
	// narrowUlps bounds functions of bfloat16: an error far below its last place can move what is rounded by one.
	narrowUlps = 1
	// sumFactor bounds sums and products of float32 relative to the sum of the absolute values of n terms, in units of
	// 2^-24 (2^-53 for float64): each addition errs by at most one such unit, in a chain of at most chain(n) additions.
	sumFactor = 1.01
	// largestSum is the part of the largest number above which sums are not compared: one in another order may overflow, as may the
	// sum of one operand where the other is a constant, which is multiplied by last (compile's tame).
	largestSum = 0x1p-21
	// weightUlps bounds softmax, in ulp: two for exp, 1 for the difference, whose error the exponent turns into as many units as
	// the exponent is large (at most 104 where the result is not 0), the sum and the quotient; see weightBound.
	weightUlps = 8
	// mixUlps bounds weighted means (attention), in 2^-24 of the largest absolute input, for a handful of roundings a score
	// with exponents up to 104.
	mixUlps = 256
	// bf16Products bounds products of operands rounded to bfloat16, relative to the sum of absolute values: 2^-9 an operand.
	bf16Products = 2.1 / 512
)

// chain is the longest chain of additions in a sum of n terms, and of roundings of its terms. Sums of rows have 64 chains that
// start anew every 4096 columns, products add up to n terms one after another; 32 covers the additions of partial results.
func chain(n int) float64 { return float64(n) + 32 }

// same compares bit for bit, but for NaN, which all are one.
func same(got, want tensor) string { return compare(exactRule, got, want, nil, 0, 0) }

// compare says where got differs from want more than a rule allows. scale is the sum of finite absolute values for sumRule, as float64,
// and the largest absolute value, one number, for mixRule.
func compare(r rule, got, want tensor, scale []float64, terms int, extra float64) string {
	if !got.shape.Equal(want.shape) {
		return fmt.Sprintf("got shape %s, want %s", got.shape, want.shape)
	}
	g, isFloat := floats(got.flat)
	if !isFloat {
		if reflect.DeepEqual(got.flat, want.flat) {
			return ""
		}
		a, b := reflect.ValueOf(got.flat), reflect.ValueOf(want.flat)
		for i := range a.Len() {
			if x, y := a.Index(i).Interface(), b.Index(i).Interface(); x != y {
				return fmt.Sprintf("[%d] got %v, want %v", i, x, y)
			}
		}
		return ""
	}
	w, _ := floats(want.flat)
	for i, x := range g {
		y := w[i]
		if math.IsNaN(x) && math.IsNaN(y) || math.Float64bits(x) == math.Float64bits(y) {
			continue
		}
		ok := false
		switch r {
		case zeroRule:
			ok = x == y
		case roundRule:
			ok = x == y || steps(got.shape.DType, x, y) <= ulpsOf(got.shape.DType)
		case sumRule:
			ok = sumClose(got.shape.DType, x, y, scale[i], terms, extra)
		case weightRule:
			ok = math.Abs(x-y) <= weightBound(got.shape.DType, y)
		case mixRule:
			ok = math.Abs(x-y) <= mixUlps*0x1p-24*scale[0]
		}
		if !ok {
			at := ""
			if len(scale) == len(g) {
				at = fmt.Sprintf(" (scale %g, %d terms)", scale[i], terms)
			}
			return fmt.Sprintf("[%d] got %v, want %v%s", i, x, y, at)
		}
	}
	return ""
}

func ulpsOf(t dtypes.DType) int64 {
	switch t {
	case dtypes.Float32:
		return functionUlps
	case dtypes.BFloat16:
		return narrowUlps
	}
	return 0 // the go backend's own
}

// steps is how many numbers of a type lie between two.
func steps(t dtypes.DType, a, b float64) int64 {
	if math.IsNaN(a) || math.IsNaN(b) {
		return math.MaxInt64
	}
	order := func(x float64) int64 {
		var bits int64
		switch t {
		case dtypes.Float32:
			bits = int64(math.Float32bits(float32(math.Abs(x))))
		case dtypes.BFloat16:
			bits = int64(math.Float32bits(float32(math.Abs(x))) >> 16)
		default:
			bits = int64(math.Float64bits(math.Abs(x)))
		}
		if math.Signbit(x) {
			return -bits
		}
		return bits
	}
	d := order(a) - order(b)
	return max(d, -d)
}

// sumClose compares a sum with one in float64. Where the absolute values together overflow, a sum in another order may or may not.
func sumClose(t dtypes.DType, got, want, scale float64, terms int, extra float64) bool {
	unit, least, most := 0x1p-24, 0x1p-149, float64(math.MaxFloat32)
	if t == dtypes.Float64 {
		unit, least, most = 0x1p-53, 0x1p-1074, math.MaxFloat64
	}
	if scale > most*largestSum {
		return true
	}
	if math.IsNaN(want) || math.IsInf(want, 0) {
		return got == want || math.IsNaN(got) && math.IsNaN(want)
	}
	bound := scale*(sumFactor*unit*chain(terms)+extra) + least*float64(terms)
	if t == dtypes.BFloat16 {
		bound += math.Abs(want)*0x1p-8 + 0x1p-133
		if math.IsInf(got, 0) && math.Abs(want)+bound >= 3.39e38 {
			return true
		}
	}
	if t == dtypes.Float16 {
		bound += math.Abs(want)*0x1p-10 + 0x1p-24
		if math.IsInf(got, 0) && math.Abs(want)+bound >= 65504 {
			return true
		}
	}
	return math.Abs(got-want) <= bound
}

func weightBound(t dtypes.DType, want float64) float64 {
	logarithm := 104.0
	if want > 0 {
		logarithm = min(logarithm, -math.Log(want))
	}
	unit, least := 0x1p-23, 0x1p-148
	if t == dtypes.BFloat16 {
		unit, least = 0x1p-7, 0x1p-132
	}
	return math.Abs(want)*unit*(weightUlps+logarithm) + least
}

// floats are the values of a slice of a float type.
func floats(flat any) ([]float64, bool) {
	var out []float64
	switch v := flat.(type) {
	case []float32:
		for _, x := range v {
			out = append(out, float64(x))
		}
	case []float64:
		return v, true
	case []bfloat16.BFloat16:
		for _, x := range v {
			out = append(out, float64(x.Float32()))
		}
	case []float16.Float16:
		for _, x := range v {
			out = append(out, float64(x.Float32()))
		}
	default:
		return nil, false
	}
	return out, true
}

// expected finds what every vertex should give, each from the given values of its inputs, and compares. extra is the additional
// relative error of products of float32.
func (g *testGraph) expected(reference compute.Backend, values []tensor, extra float64) error {
	r := &referee{graph: g, values: values, parameters: map[int]compute.Value{}, f: nil}
	builder := reference.Builder("expected")
	r.f = builder.Main()
	for _, v := range g.vertices {
		if v.name != parameterName && v.host == nil && !dead(v) {
			if err := r.add(v); err != nil {
				return fmt.Errorf("build %s in the go backend: %w", v.name, err)
			}
		}
	}
	var results []tensor
	if len(r.outputs) > 0 {
		if err := r.f.Return(r.outputs, nil); err != nil {
			return err
		}
		exec, err := builder.Compile()
		if err != nil {
			return err
		}
		defer exec.Finalize()
		if results, err = r.run(reference, exec); err != nil {
			if goStops(err) {
				return fmt.Errorf("%w: %w", errGoStops, err)
			}
			return fmt.Errorf("go backend: %w", err)
		}
	}
	for _, v := range g.vertices {
		if v.name == parameterName {
			if problem := same(values[v.first], tensor{v.shapes[0], v.data}); problem != "" {
				return fmt.Errorf("%%%d = parameter as output: %s", v.first, problem)
			}
			continue
		}
		if dead(v) {
			continue
		}
		if v.host != nil {
			for i, want := range v.host(pick(values, v.in)) {
				if problem := same(values[v.first+i], want); problem != "" {
					return fmt.Errorf("%%%d = %s: %s", v.first+i, v.name, problem)
				}
			}
			continue
		}
		for i := range v.shapes {
			want := results[0]
			results = results[1:]
			var scale []float64
			switch v.rule {
			case sumRule:
				scale, _ = floats(results[0].flat)
				results = results[1:]
				want = tensor{v.shapes[0], want.flat}
			case mixRule:
				scale = []float64{largest(pick(values, v.in))}
			}
			if problem := compareMixed(v, values[v.first+i], want, scale, extra); problem != "" {
				return fmt.Errorf("%%%d = %s: %s", v.first+i, v.name, problem)
			}
		}
	}
	return nil
}

// dead says whether an operation has no elements: the go backend stops at some such operations, and there is nothing to compare.
func dead(v *vertex) bool {
	for _, s := range v.shapes {
		if s.Size() > 0 {
			return false
		}
	}
	return len(v.shapes) > 0
}

// compareMixed is compare where sums are wanted in float64.
func compareMixed(v *vertex, got, want tensor, scale []float64, extra float64) string {
	if v.rule != sumRule {
		return compare(v.rule, got, want, scale, v.terms, extra)
	}
	if v.shapes[0].DType != dtypes.Float32 || v.name[0] != 'D' {
		extra = 0
	}
	g, _ := floats(got.flat)
	return compare(sumRule, tensor{got.shape, g}, tensor{got.shape, want.flat}, scale, v.terms, extra)
}

func largest(in []tensor) float64 {
	most := 0.0
	for _, x := range in {
		values, _ := floats(x.flat)
		for _, v := range values {
			most = max(most, math.Abs(v))
		}
	}
	return most
}

// referee builds every vertex of a graph on parameters.
type referee struct {
	graph      *testGraph
	values     []tensor
	f          compute.Function
	parameters map[int]compute.Value
	order      []int // values that are parameters
	outputs    []compute.Value
}

func (r *referee) parameter(value int) (compute.Value, error) {
	if p, ok := r.parameters[value]; ok {
		return p, nil
	}
	p, err := r.f.Parameter(fmt.Sprintf("v%d", value), r.values[value].shape, nil)
	if err != nil {
		return nil, err
	}
	r.parameters[value] = p
	r.order = append(r.order, value)
	return p, nil
}

func (r *referee) add(v *vertex) error {
	in := make([]compute.Value, len(v.in))
	for i, value := range v.in {
		var err error
		if in[i], err = r.parameter(value); err != nil {
			return err
		}
	}
	if v.rule == sumRule {
		return r.addSum(v, in)
	}
	build := v.build
	if v.other != nil {
		build = v.other
	}
	out, err := build(r.f, in)
	r.outputs = append(r.outputs, out...)
	return err
}

// finitePart is the absolute values of x, 0 where they are not finite.
func finitePart(f compute.Function, x compute.Value) (compute.Value, error) {
	zero, err := f.Constant([]float64{0})
	if err != nil {
		return nil, err
	}
	finite, err := f.IsFinite(x)
	if err != nil {
		return nil, err
	}
	if x, err = f.Abs(x); err != nil {
		return nil, err
	}
	return f.Where(finite, x, zero)
}

// addSum builds the sum in float64 and that of the finite absolute values.
func (r *referee) addSum(v *vertex, in []compute.Value) error {
	for _, absolute := range []bool{false, true} {
		wide := make([]compute.Value, len(in))
		for i, x := range in {
			var err error
			if wide[i], err = r.f.ConvertDType(x, dtypes.Float64); err != nil {
				return err
			}
			if absolute {
				if wide[i], err = finitePart(r.f, wide[i]); err != nil {
					return err
				}
			}
		}
		out, err := v.sum64(r.f, wide)
		if err != nil {
			return err
		}
		r.outputs = append(r.outputs, out...)
	}
	return nil
}

func (r *referee) run(reference compute.Backend, exec compute.Executable) ([]tensor, error) {
	stand := &testGraph{}
	for _, value := range r.order {
		stand.append(&vertex{name: parameterName, shapes: []shapes.Shape{r.values[value].shape}, data: r.values[value].flat})
	}
	return guard(func() ([]tensor, error) { return stand.runWith(reference, exec, nil) })
}

// errGoStops is wrapped by check for graphs that the go backend cannot run for a fault of its own.
var errGoStops = errors.New("the go backend stops")

// goStops says whether an error is the go backend's fault in branches and called functions that share captured values: it frees one
// that a later operation needs, or writes over it.
func goStops(err error) bool {
	return strings.Contains(err.Error(), "not computed yet") || strings.Contains(err.Error(), "reused input")
}
