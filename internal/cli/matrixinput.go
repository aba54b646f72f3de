package cli

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/internal/npy"
	"github.com/polargo/polar/internal/safetensors"
	"github.com/polargo/polar/matfn"
)

// symmetryTol is the largest ‖W - Wᵀ‖/‖W‖, in Frobenius norms, of what counts as symmetric.
const symmetryTol = 1e-5

// matrices is an input of polar matrix: finite float32 or float64 numbers [..., m, n].
type matrices struct {
	name string // as the user wrote it
	data *tensors.Tensor
}

// inTensors separates a safetensors file from the name of a tensor in it.
const inTensors = ".safetensors:"

// readMatrices reads FILE.npy or FILE.safetensors:NAME into the engine's memory, and refuses what is no matrix or not finite.
func readMatrices(engine compute.Backend, name string) (in matrices, err error) {
	in.name = name
	switch at := strings.Index(name, inTensors); {
	case at >= 0:
		in.data, err = readTensor(engine, name[:at+len(inTensors)-1], name[at+len(inTensors):])
	case strings.HasSuffix(name, ".safetensors"):
		return in, namesIn(name)
	default:
		in.data, err = readNPY(engine, name)
	}
	if err != nil {
		return matrices{}, err
	}
	if in.data.Rank() < 2 {
		return in, failf("", "%s has the shape %s, want a matrix or a batch of them: two axes or more", name, in.shape())
	}
	if at, value, found := in.notFinite(); found {
		return in, failf("", "%s: element %s is %s, want finite numbers", name, at, value)
	}
	return in, nil
}

func readNPY(engine compute.Backend, path string) (*tensors.Tensor, error) {
	file, err := npy.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if file.Double() {
		return filled(engine, dtypes.Float64, file.Shape(), func(flat []float64) error { return npy.Read(file, flat) })
	}
	return filled(engine, dtypes.Float32, file.Shape(), func(flat []float32) error { return npy.Read(file, flat) })
}

// readTensor reads a floating point tensor: F64 as float64, narrower ones as float32.
func readTensor(engine compute.Backend, path, name string) (*tensors.Tensor, error) {
	file, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	dtype, shape, ok := file.Info(name)
	if !ok {
		return nil, failf("it has "+strings.Join(condense(file.Names()), ", "), "%s has no tensor %q", path, name)
	}
	if dtype != "F64" {
		return filled(engine, dtypes.Float32, shape, func(flat []float32) error { return file.ReadFloat32(name, flat) })
	}
	return filled(engine, dtypes.Float64, shape, func(flat []float64) error {
		raw, err := file.Read(name)
		for i := range flat {
			if err == nil {
				flat[i] = math.Float64frombits(binary.LittleEndian.Uint64(raw.Data[8*i:]))
			}
		}
		return err
	})
}

// namesIn is the error for a safetensors file without the name of a tensor.
func namesIn(path string) error {
	file, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return usagef("it has "+strings.Join(condense(file.Names()), ", "), "%s: name a tensor, as %s:NAME", path, path)
}

// filled returns a new tensor in the engine's memory that fill has filled.
func filled[T npy.Float](engine compute.Backend, dtype dtypes.DType, shape []int, fill func(flat []T) error) (*tensors.Tensor, error) {
	data, err := tensors.FromShapeForBackend(engine, 0, shapes.Make(dtype, shape...))
	if err != nil {
		return nil, err
	}
	var failed error
	if err := tensors.MutableFlatData(data, func(flat []T) { failed = fill(flat) }); err != nil {
		return nil, err
	}
	return data, failed
}

// shape returns the shape as Python writes it.
func (in matrices) shape() string { return npy.ShapeText(in.data.Shape().Dimensions) }

// notFinite finds the first element that is NaN or infinite: its index and what it is.
func (in matrices) notFinite() (at, value string, found bool) {
	return firstNotFinite(in.data)
}

func firstNotFinite(data *tensors.Tensor) (at, value string, found bool) {
	look := func(n int, element func(i int) float64) {
		for i := range n {
			x := element(i)
			if x-x == 0 { // not for NaN or an infinity
				continue
			}
			value = map[bool]string{true: "nan"}[math.IsNaN(x)]
			if value == "" {
				value = map[bool]string{true: "inf", false: "-inf"}[x > 0]
			}
			at, found = indexText(i, data.Shape().Dimensions), true
			return
		}
	}
	each(data, look)
	return at, value, found
}

// each calls look with the number of elements and a function that returns one.
func each(data *tensors.Tensor, look func(n int, element func(i int) float64)) {
	data.MustConstFlatData(func(flat any) {
		switch flat := flat.(type) {
		case []float32:
			look(len(flat), func(i int) float64 { return float64(flat[i]) })
		case []float64:
			look(len(flat), func(i int) float64 { return flat[i] })
		}
	})
}

// indexText writes the place of a flat index in a shape: [1, 0, 2].
func indexText(flat int, shape []int) string {
	parts := make([]string, len(shape))
	for axis := len(shape) - 1; axis >= 0; axis-- {
		parts[axis] = fmt.Sprint(flat % shape[axis])
		flat /= shape[axis]
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// symmetric refuses matrices that are not square, or not symmetric within symmetryTol.
func (in matrices) symmetric(function string) error {
	dims := in.data.Shape().Dimensions
	m := dims[len(dims)-1]
	if dims[len(dims)-2] != m {
		return failf("", "%s has the shape %s, but %s wants square matrices that are symmetric", in.name, in.shape(), function)
	}
	if m == 0 {
		return nil
	}
	var err error
	each(in.data, func(n int, element func(i int) float64) {
		for first := 0; first < n && err == nil; first += m * m {
			if a := asymmetry(m, func(i, j int) float64 { return element(first + i*m + j) }); a > symmetryTol {
				which := in.name
				if n > m*m {
					which = fmt.Sprintf("matrix %s of %s", indexText(first/(m*m), dims[:len(dims)-2]), in.name)
				}
				err = failf("", "%s is not symmetric: ‖W - Wᵀ‖/‖W‖ is %.2g, and %s wants at most %g", which, a, function, symmetryTol)
			}
		}
	})
	return err
}

// asymmetry returns ‖W - Wᵀ‖/‖W‖ in Frobenius norms for an m x m matrix of any scale; zero for zero.
func asymmetry(m int, w func(i, j int) float64) float64 {
	largest := 0.0
	for i := range m {
		for j := range m {
			largest = max(largest, math.Abs(w(i, j)))
		}
	}
	if largest == 0 {
		return 0
	}
	norm, apart := 0.0, 0.0
	for i := range m {
		for j := range m {
			x, y := w(i, j)/largest, w(j, i)/largest
			norm, apart = norm+x*x, apart+(x-y)*(x-y)
		}
	}
	return math.Sqrt(apart / norm)
}

// beyondFloat32 finds the first element that rounds to an infinity in float32.
func (in matrices) beyondFloat32() (at string, value float64, found bool) {
	each(in.data, func(n int, element func(i int) float64) {
		for i := range n {
			if x := element(i); math.IsInf(float64(float32(x)), 0) {
				at, value, found = indexText(i, in.data.Shape().Dimensions), x, true
				return
			}
		}
	})
	return at, value, found
}

// indefinite is how negative an eigenvalue may be, relative to the spectral norm, that is taken for rounding.
const indefinite = 1e-5

// definite refuses symmetric matrices with a negative eigenvalue that rounding does not explain.
func (in matrices) definite(engine compute.Backend, function string) error {
	negative, err := CallOnce(engine, func(w *Node) *Node { return matfn.ProjNSD(w, matfn.WithExact()) }, in.data)
	if err != nil {
		return err
	}
	depths, err := spectralNorms(engine, negative)
	if err != nil {
		return err
	}
	norms, err := spectralNorms(engine, in.data)
	if err != nil {
		return err
	}
	for i, depth := range depths {
		if depth > indefinite*norms[i] {
			dims := in.data.Shape().Dimensions
			which := in.name
			if len(depths) > 1 {
				which = fmt.Sprintf("matrix %s of %s", indexText(i, dims[:len(dims)-2]), in.name)
			}
			return failf("", "%s is not positive semidefinite: it has an eigenvalue of %.3g at a spectral norm of %.3g, and %s wants none below zero",
				which, -depth, norms[i], function)
		}
	}
	return nil
}
