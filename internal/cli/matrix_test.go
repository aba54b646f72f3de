package cli

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/npy"
	"github.com/polargo/polar/internal/oracle"
	"github.com/polargo/polar/internal/safetensors"
	"github.com/polargo/polar/matfn"
)

// need returns v, or fails the test.
func need[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// npyFile writes x as an array file of a dtype (<f4, >f8, ...) in C or Fortran order, as numpy.save would, and returns its path.
func npyFile(t testing.TB, name, dtype string, fortran bool, x mat.Matrix) string {
	t.Helper()
	m, n := x.Dims()
	order := map[bool]string{true: "True", false: "False"}[fortran]
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': (%d, %d), }\n", dtype, order, m, n)
	content := append([]byte("\x93NUMPY\x01\x00"), binary.LittleEndian.AppendUint16(nil, uint16(len(header)))...)
	content = append(content, header...)
	var bytes binary.AppendByteOrder = binary.LittleEndian
	if dtype[0] == '>' {
		bytes = binary.BigEndian
	}
	if fortran {
		x, m, n = x.T(), n, m
	}
	for i := range m {
		for j := range n {
			if strings.HasSuffix(dtype, "f8") {
				content = bytes.AppendUint64(content, math.Float64bits(x.At(i, j)))
			} else {
				content = bytes.AppendUint32(content, math.Float32bits(float32(x.At(i, j))))
			}
		}
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// loadNPY reads a float32 array of the given shape.
func loadNPY(t testing.TB, path string, shape ...int) []float64 {
	t.Helper()
	file := need[*npy.File](t)(npy.Open(path))
	defer file.Close()
	size := 1
	for _, dim := range shape {
		size *= dim
	}
	if !slices.Equal(file.Shape(), shape) || file.Double() {
		t.Fatalf("%s: shape %v, float64 %v; want float32 %v", path, file.Shape(), file.Double(), shape)
	}
	data := make([]float64, size)
	if err := npy.Read(file, data); err != nil {
		t.Fatal(err)
	}
	return data
}

func elements(x mat.Matrix) []float64 { return mat.DenseCopyOf(x).RawMatrix().Data }

// symmetricWith returns a symmetric matrix of the given eigenvalues.
func symmetricWith(t testing.TB, values []float64) *mat.Dense {
	t.Helper()
	return need[*mat.Dense](t)(oracle.WithEigenvalues(9, values))
}

// exactTol is for exact functions of float64 input against the oracle, relative to the largest of the norms involved: the
// output is float32, 6e-8; the worst of this test is 6e-8.
const exactTol = 2e-7

// TestMatrixFunctions runs every function on files and compares with the float64 oracle: shapes from 1 x 1, full rank and
// not, condition numbers up to 1e6, scales from 1e-12 to 1e12 (bounds scale along).
func TestMatrixFunctions(t *testing.T) {
	spread := func(k int, low float64) []float64 {
		values := make([]float64, k)
		for i := range values {
			values[i] = math.Pow(low, float64(i)/float64(max(k-1, 1)))
		}
		return values
	}
	deficient := append(spread(5, 1e-2), 0, 0)
	singular := map[string][]float64{"1x1": {0.7}, "1x6": {1}, "6x1": {1}, "7x7": deficient, "12x7": spread(7, 1e-6), "7x12": spread(7, 1e-6), "40x9": spread(9, 1e-3), "zero 3x5": {0, 0, 0}}
	signed := map[string][]float64{"1x1": {-0.7}, "2x2": {1, -1}, "9x9": {1, 0.6, 0.3, 0.2, 1e-3, 0, -1e-3, -0.25, -0.9}, "zero 3x3": {0, 0, 0}}
	definite := map[string][]float64{"1x1": {0.7}, "7x7": deficient, "8x8": spread(8, 1e-6), "zero 3x3": {0, 0, 0}}
	f := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	for _, c := range []struct {
		function string
		values   map[string][]float64
		flags    func(s float64) []string
		want     func(x mat.Matrix, s float64) (*mat.Dense, error)
		power    float64 // how the result scales
	}{
		{"msign", singular, func(float64) []string { return nil }, func(x mat.Matrix, _ float64) (*mat.Dense, error) { return oracle.Msign(x) }, 0},
		{"invsqrt", definite, func(float64) []string { return nil }, func(x mat.Matrix, _ float64) (*mat.Dense, error) { return oracle.InvSqrt(x, 0) }, -0.5},
		{"clip", singular, func(s float64) []string { return []string{"--lo", f(0.02 * s), "--hi", f(0.5 * s)} },
			func(x mat.Matrix, s float64) (*mat.Dense, error) { return oracle.SpectralClip(x, 0.02*s, 0.5*s) }, 1},
		{"hardcap", singular, func(s float64) []string { return []string{"--beta", f(0.3 * s)} },
			func(x mat.Matrix, s float64) (*mat.Dense, error) { return oracle.SpectralHardcap(x, 0.3*s) }, 1},
		{"relu", singular, func(s float64) []string { return []string{"--alpha", f(0.3 * s)} },
			func(x mat.Matrix, s float64) (*mat.Dense, error) { return oracle.SpectralReLU(x, 0.3*s) }, 1},
		{"clipped-decay", singular, func(s float64) []string { return []string{"--beta", f(0.3 * s), "--lambda", "0.25"} },
			func(x mat.Matrix, s float64) (*mat.Dense, error) {
				return oracle.SpectralClippedWeightDecay(x, 0.3*s, 0.25)
			}, 1},
		{"eig-clip", signed, func(s float64) []string { return []string{"--lo", f(-0.3 * s), "--hi", f(0.5 * s)} },
			func(x mat.Matrix, s float64) (*mat.Dense, error) { return oracle.EigClip(x, -0.3*s, 0.5*s) }, 1},
		{"eig-relu", signed, func(s float64) []string { return []string{"--alpha", f(-0.3 * s)} },
			func(x mat.Matrix, s float64) (*mat.Dense, error) { return oracle.EigReLU(x, -0.3*s) }, 1},
		{"eig-hardcap", signed, func(s float64) []string { return []string{"--beta", f(-0.1 * s)} },
			func(x mat.Matrix, s float64) (*mat.Dense, error) { return oracle.EigHardcap(x, -0.1*s) }, 1},
		{"psd", signed, func(float64) []string { return nil }, func(x mat.Matrix, _ float64) (*mat.Dense, error) { return oracle.ProjPSD(x) }, 1},
		{"nsd", signed, func(float64) []string { return nil }, func(x mat.Matrix, _ float64) (*mat.Dense, error) { return oracle.ProjNSD(x) }, 1},
		{"eig-step", signed, func(s float64) []string { return []string{"--alpha", f(0.1 * s)} },
			func(x mat.Matrix, s float64) (*mat.Dense, error) { return oracle.EigStep(x, 0.1*s) }, 0},
	} {
		t.Run(c.function, func(t *testing.T) {
			worst, i := 0.0, 0
			for name, values := range c.values {
				for _, s := range []float64{1, 1e-12, 1e12} {
					i++
					x := matrixFor(t, name, values)
					x.Scale(s, x)
					in := npyFile(t, "in.npy", []string{"<f8", ">f8"}[i%2], i%3 == 0, x)
					out := filepath.Join(t.TempDir(), "out.npy")
					must(t, slices.Concat([]string{"matrix", c.function}, c.flags(s), []string{in, "-o", out})...)
					want := need[*mat.Dense](t)(c.want(x, s))
					m, n := x.Dims()
					got := mat.NewDense(m, n, loadNPY(t, out, m, n))
					size := mat.Norm(want, 2)
					switch c.power { // the result is a sum of matrices of the norm of the input, of bounds, or of projectors
					case 1:
						size = max(size, mat.Norm(x, 2), s)
					case 0:
						size = max(size, 1)
					}
					if e := distance(got, want, size); !(e <= exactTol) {
						t.Errorf("%s at scale %g: %.2g from the oracle, want %g", name, s, e, exactTol)
					} else {
						worst = max(worst, e)
					}
				}
			}
			t.Logf("worst %.1e", worst)
		})
	}
}

// matrixFor returns a matrix of the shape in name with the given singular values, or eigenvalues if it is square.
func matrixFor(t testing.TB, name string, values []float64) *mat.Dense {
	t.Helper()
	var m, n int
	if _, err := fmt.Sscanf(name[strings.LastIndexByte(name, ' ')+1:], "%dx%d", &m, &n); err != nil {
		t.Fatal(err)
	}
	if m == n {
		return symmetricWith(t, values)
	}
	return need[*mat.Dense](t)(oracle.WithSingularValues(8, m, n, values))
}

// distance returns ‖got - want‖/size, zero for equal ones.
func distance(got, want *mat.Dense, size float64) float64 {
	var d mat.Dense
	d.Sub(got, want)
	norm := mat.Norm(&d, 2)
	if norm == 0 {
		return 0
	}
	return norm / size
}

// TestMatrixTangents runs the tangent functions with W on bounds, and X unsymmetric, against the oracle.
func TestMatrixTangents(t *testing.T) {
	x := oracle.Gaussian(4, 8, 8)
	tall := oracle.Gaussian(5, 12, 7)
	symmetric := symmetricWith(t, []float64{1, 1, 0.9, 0.5, 0.3, 0.01, 0, 0})
	banded := need[*mat.Dense](t)(oracle.WithSingularValues(6, 12, 7, []float64{2, 2, 1.9, 1, 0.6, 0.5, 0.5}))
	orthonormal := need[*mat.Dense](t)(oracle.Msign(oracle.Gaussian(7, 12, 7)))
	for _, c := range []struct {
		args string
		w, x *mat.Dense
		want func() (*mat.Dense, error)
	}{
		{"tangent-psd", symmetric, x, func() (*mat.Dense, error) { return oracle.TangentPSD(symmetric, x, 1e-3) }},
		{"tangent-psd --tol 0.1", symmetric, x, func() (*mat.Dense, error) { return oracle.TangentPSD(symmetric, x, 0.1) }},
		{"tangent-spectrahedron --lo 0 --hi 1", symmetric, x, func() (*mat.Dense, error) { return oracle.TangentSpectrahedron(symmetric, x, 0, 1, 1e-3) }},
		{"tangent-spectrahedron --lo -2 --hi 1.05 --tol 1e-1", symmetric, x, func() (*mat.Dense, error) { return oracle.TangentSpectrahedron(symmetric, x, -2, 1.05, 0.1) }},
		{"tangent-ball --radius 2", banded, tall, func() (*mat.Dense, error) { return oracle.TangentBall(banded, tall, 2, 1e-3) }},
		{"tangent-ball --radius 2 --tol .2", banded, tall, func() (*mat.Dense, error) {
			out := mat.DenseCopyOf(tall)
			out.Sub(out, lostAt(t, banded, tall, 2, 0.8, 1, oracle.ProjPSD))
			return out, nil
		}},
		{"tangent-ball --radius 3", banded, tall, func() (*mat.Dense, error) { return tall, nil }},
		{"tangent-band --lo 0.5 --hi 2", banded, tall, func() (*mat.Dense, error) { return oracle.TangentBand(banded, tall, 0.5, 2, 1e-3) }},
		{"tangent-band --lo 0.5 --hi 2 --tol 0.5", banded, tall, func() (*mat.Dense, error) {
			out := mat.DenseCopyOf(tall)
			out.Sub(out, lostAt(t, banded, tall, 2, 0.5, 1, oracle.ProjPSD))
			out.Sub(out, lostAt(t, banded, tall, 0.5, 1.5, -1, oracle.ProjNSD))
			return out, nil
		}},
		{"tangent-band --lo 1 --hi 1", orthonormal, tall, func() (*mat.Dense, error) { return oracle.TangentStiefel(orthonormal, tall) }},
		{"tangent-stiefel", orthonormal, tall, func() (*mat.Dense, error) { return oracle.TangentStiefel(orthonormal, tall) }},
	} {
		t.Run(c.args, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "t.npy")
			must(t, slices.Concat([]string{"matrix", "-o", out}, strings.Fields(c.args), []string{npyFile(t, "w.npy", "<f8", true, c.w), npyFile(t, "x.npy", "<f8", false, c.x)})...)
			m, n := c.x.Dims()
			want := need[*mat.Dense](t)(c.want())
			got := mat.NewDense(m, n, loadNPY(t, out, m, n))
			if e := distance(got, want, mat.Norm(c.x, 2)); !(e <= exactTol) {
				t.Errorf("%.2g from the oracle, want %g", e, exactTol)
			}
			if c.args == "tangent-psd" && distance(got, c.x, mat.Norm(c.x, 2)) < 0.1 {
				t.Error("it is the identity, so that this test shows nothing")
			}
		})
	}
}

// lostAt returns J lost(sym(Jᵀ X P)) with J = W P/bound, as the formulas have it also where singular values are only near the
// bound: P projects onto eigenvalues of WᵀW/bound² above the edge, or with side -1 onto the others.
func lostAt(t testing.TB, w, x *mat.Dense, bound, edge, side float64, lost func(mat.Matrix) (*mat.Dense, error)) *mat.Dense {
	t.Helper()
	var gram, j, jx, block, out mat.Dense
	gram.Mul(w.T(), w)
	gram.Scale(1/(bound*bound), &gram)
	p := need[*mat.Dense](t)(oracle.EigStep(&gram, edge))
	if side < 0 {
		p = need[*mat.Dense](t)(oracle.ApplyEigen(&gram, func(v float64) float64 {
			if v > edge {
				return 0
			}
			return 1
		}))
	}
	j.Mul(w, p)
	j.Scale(1/bound, &j)
	jx.Mul(j.T(), x)
	block.Mul(&jx, p)
	jx.Add(&block, block.T())
	jx.Scale(0.5, &jx)
	out.Mul(&j, need[*mat.Dense](t)(lost(&jx)))
	return &out
}

// TestTangentPSDDefaultIsRelative: without --tol, what counts as zero scales with W.
func TestTangentPSDDefaultIsRelative(t *testing.T) {
	x := oracle.Gaussian(4, 3, 3)
	w := symmetricWith(t, []float64{1e-6, 1e-8, 0}) // 1e-8 is 1e-2 of the norm: inside
	want := need[*mat.Dense](t)(oracle.TangentPSD(w, x, 1e-9))
	out := filepath.Join(t.TempDir(), "t.npy")
	must(t, "matrix", "tangent-psd", npyFile(t, "w.npy", "<f8", false, w), npyFile(t, "x.npy", "<f8", false, x), "-o", out)
	check.Close(t, "tangent", loadNPY(t, out, 3, 3), elements(want), exactTol)
}

// TestMatrixSchedules: a named schedule makes of singular values what its polynomials do, in float32, and +finish adds the
// Newton-Schulz steps.
func TestMatrixSchedules(t *testing.T) {
	const tol = 2e-5 // float32 through 8 steps; the worst is 4e-6
	sigma := []float64{1, 0.3, 0.05}
	x := need[*mat.Dense](t)(oracle.WithSingularValues(3, 3, 9, sigma))
	in := npyFile(t, "in.npy", "<f4", false, x)
	norm := mat.Norm(x, 2)
	newton := matfn.Step{A: 1.875, B: -1.25, C: 0.375}
	for name, schedule := range schedules {
		for _, finish := range []string{"", "+finish"} {
			steps := slices.Clone(schedule)
			if finish != "" {
				steps = append(steps, newton, newton, newton, newton, newton, newton)
			}
			want := need[*mat.Dense](t)(oracle.Apply(x, func(s float64) float64 { return steps.At(s / norm) }))
			for _, form := range []string{"auto", "direct", "gram"} {
				out := filepath.Join(t.TempDir(), "o.npy")
				must(t, "matrix", "msign", "--schedule", name+finish, "--form="+form, in, "-o", out)
				check.Close(t, name+finish+" "+form, loadNPY(t, out, 3, 9), elements(want), tol)
				if polar := need[*mat.Dense](t)(oracle.Msign(x)); check.Relative(loadNPY(t, out, 3, 9), elements(polar)) <= exactTol {
					t.Errorf("%s is as accurate as the exact functions, whose tests then show nothing", name)
				}
			}
		}
	}
	p := symmetricWith(t, []float64{1, 0.5, 0.01})
	out := filepath.Join(t.TempDir(), "r.npy")
	must(t, "matrix", "invsqrt", "--schedule=lora-muon", npyFile(t, "p.npy", "<f4", false, p), "-o", out)
	ridged := need[*mat.Dense](t)(oracle.InvSqrt(p, matfn.Ridge))
	check.Close(t, "root", loadNPY(t, out, 3, 3), elements(ridged), 2e-3) // matfn's bound for its 7 steps
	for _, form := range clipForms {
		for _, schedule := range []string{"exact", "polar-express+finish"} {
			must(t, "matrix", "clip", "--lo=0.1", "--hi=0.5", "--form", form, "--schedule", schedule, in, "-o", out)
			want := need[*mat.Dense](t)(oracle.SpectralClip(x, 0.1, 0.5))
			check.Close(t, form+" "+schedule, loadNPY(t, out, 3, 9), elements(want), map[string]float64{"exact": exactTol, "polar-express+finish": 1e-3}[schedule])
		}
	}
}

// TestInvSqrtOfRoundedMatrices: a singular matrix rounded to float32 has tiny negative eigenvalues, which are zeros.
func TestInvSqrtOfRoundedMatrices(t *testing.T) {
	x := oracle.Gaussian(3, 20, 6)
	var p mat.Dense
	p.Mul(x, x.T())
	in := npyFile(t, "p.npy", "<f4", false, &p)
	values, _, err := oracle.Eigen(need[*mat.Dense](t)(oracle.FromFloat32(oracle.Float32(&p), 20, 20)))
	if err != nil || slices.Min(values) >= 0 {
		t.Fatalf("smallest eigenvalue %g, want a negative one; %v", slices.Min(values), err)
	}
	out := filepath.Join(t.TempDir(), "r.npy")
	must(t, "matrix", "invsqrt", in, "-o", out)
	rounded := need[*mat.Dense](t)(oracle.FromFloat32(oracle.Float32(&p), 20, 20))
	want := need[*mat.Dense](t)(oracle.ApplyEigen(rounded, func(v float64) float64 {
		if v < 1e-10*slices.Max(values) {
			return 0
		}
		return 1 / math.Sqrt(v)
	}))
	check.Close(t, "root", loadNPY(t, out, 20, 20), elements(want), 1e-5) // eigenvalues of 1e-8 amplify 1e-16 by 1e4
}

// TestMatrixConventions: how the command line may be written, and what may be read and written.
func TestMatrixConventions(t *testing.T) {
	dir := t.TempDir()
	x := symmetricWith(t, []float64{1, 0.5, -0.5, -2})
	in := npyFile(t, "in.npy", "<f4", false, x)
	want := need[*mat.Dense](t)(oracle.EigClip(x, -0.3, 0.1))
	out := filepath.Join(dir, "out.npy")
	tensors := filepath.Join(dir, "w.safetensors")
	var raw []byte
	for _, v := range elements(x) {
		raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(v))
	}
	list := []safetensors.Tensor{safetensors.FromFloat32("a.w", []int{4, 4}, oracle.Float32(x)), {Name: "wide", DType: "F64", Shape: []int{4, 4}, Data: raw}}
	if err := safetensors.Write(tensors, list, nil); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"matrix eig-clip --lo -0.3 --hi 1e-1 IN -o OUT",
		"matrix eig-clip --lo -3e-1 --hi .1 IN -o OUT",
		"matrix eig-clip --lo=-0.3 --hi=0.1 --out=OUT IN",
		"matrix -o OUT --hi 0.1 --lo -.3 eig-clip IN",
		"matrix eig-clip IN --lo -0.3 -o OUT --hi 0.1",
		"matrix eig-clip --lo -0.3 --hi 0.1 " + tensors + ":a.w -o OUT",
		"matrix eig-clip --lo -0.3 --hi 0.1 " + tensors + ":wide -o OUT",
	} {
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
		said := must(t, strings.Fields(strings.NewReplacer("IN", in, "OUT", out).Replace(args))...)
		mustSay(t, said, "wrote "+out+", float32 (4, 4)")
		check.Close(t, args, loadNPY(t, out, 4, 4), elements(want), 1e-6) // of input rounded to float32
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("%v left in the folder, want the output and the tensors", left)
	}

	batch := filepath.Join(dir, "batch.npy") // two matrices, of which one is zero
	if err := npy.Write(batch, []int{2, 1, 4, 4}, append(oracle.Float32(x), make([]float32, 16)...)); err != nil {
		t.Fatal(err)
	}
	must(t, "matrix", "eig-clip", "--lo", "-0.3", "--hi", "0.1", batch, "-o", batch) // over its own input
	check.Close(t, "batch", loadNPY(t, batch, 2, 1, 4, 4), append(elements(want), make([]float64, 16)...), 1e-6)
	if err := npy.Write(batch, []int{2, 2, 3}, []float32{0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if said := must(t, "matrix", "spectral-norm", batch); said != "3\n0\n" {
		t.Errorf("norms of a batch: %q, want one a line and 0 for zero", said)
	}

	empty := filepath.Join(dir, "empty.npy")
	if err := npy.Write(empty, []int{0, 3}, nil); err != nil {
		t.Fatal(err)
	}
	must(t, "matrix", "msign", empty, "-o", out)
	loadNPY(t, out, 0, 3)
}

// TestSpectralNorms: converged also where singular values are equal or nearly so, at any scale.
func TestSpectralNorms(t *testing.T) {
	const tol = 1e-9 // printed with 10 digits
	close := make([]float64, 30)
	for i := range close {
		close[i] = 1 - 1e-6*float64(i)
	}
	hidden := slices.Repeat([]float64{1}, 30)
	hidden[0] = 1 + 1e-7
	for name, sigma := range map[string][]float64{"spread": {1, 0.5, 0.1}, "equal": {2, 2, 2, 2}, "close": close, "hidden": hidden, "zero": {0, 0}, "one": {3}} {
		for _, scale := range []float64{1e-30, 1, 1e30} {
			for _, wide := range []int{0, 7} {
				x := need[*mat.Dense](t)(oracle.WithSingularValues(5, len(sigma), len(sigma)+wide, sigma))
				x.Scale(scale, x)
				said := must(t, "matrix", "spectral-norm", npyFile(t, "in.npy", "<f8", false, x))
				got := need[float64](t)(strconv.ParseFloat(strings.TrimSpace(said), 64))
				if want := sigma[0] * scale; math.Abs(got-want) > tol*want {
					t.Errorf("%s at scale %g: %v, want %v", name, scale, got, want)
				}
			}
		}
	}
}

// TestJoinNegatives: only a number after a long flag is taken for its value.
func TestJoinNegatives(t *testing.T) {
	for args, want := range map[string]string{
		"--lo -0.3 --hi -1e-3": "--lo=-0.3 --hi=-1e-3", "--lo -.5 x": "--lo=-.5 x", "--lo=-1 -2": "--lo=-1 -2", "--lo -inf": "--lo=-inf",
		"--lo -1e999": "--lo=-1e999", "--quiet -o -3": "--quiet -o -3", "--lo -x": "--lo -x", "-1 --lo": "-1 --lo", "--lo -1 -2": "--lo=-1 -2",
		"--lo -- -3": "--lo -- -3", "-- --lo -3": "-- --lo -3", "": "",
	} {
		if got := strings.Join(joinNegatives(strings.Fields(args)), " "); got != want {
			t.Errorf("%q became %q, want %q", args, got, want)
		}
	}
}

// TestAwait: an interrupt does not wait for the work, and a panic of the work is one of the caller's.
func TestAwait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	_, err := await(ctx, func() (int, error) {
		cancel()
		<-release
		return 1, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	defer func() {
		if cause := recover(); cause != "broken" {
			t.Errorf("recovered %v, want the panic of the work", cause)
		}
	}()
	_, _ = await(t.Context(), func() (int, error) { panic("broken") })
}

// TestMatrixInterrupted: a signal ends a computation before its end, with nothing written.
func TestMatrixInterrupted(t *testing.T) {
	dir := t.TempDir()
	in := npyFile(t, "in.npy", "<f8", false, oracle.Gaussian(1, 900, 900)) // seconds
	var stdout, stderr bytes.Buffer
	p := &program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
	p.notify = func(signals chan<- os.Signal) func() {
		time.AfterFunc(100*time.Millisecond, func() { signals <- os.Interrupt })
		return func() {}
	}
	status := p.main(t.Context(), []string{"matrix", "msign", in, "-o", filepath.Join(dir, "out.npy")})
	if status != statusInterrupted || stdout.Len() > 0 {
		t.Errorf("status %d, output %q: %s", status, stdout.String(), stderr.String())
	}
	mustSay(t, stderr.String(), "polar: stopping", "polar: interrupted\n")
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestMatrixRefuses: one clear line, a status that is not zero, and no output left behind.
func TestMatrixRefuses(t *testing.T) {
	with := func(x *mat.Dense, i, j int, v float64) *mat.Dense {
		x = mat.DenseCopyOf(x)
		x.Set(i, j, v)
		return x
	}
	square, symmetric := oracle.Gaussian(1, 4, 4), symmetricWith(t, []float64{2, 1, 0.5, -1})
	w, wide := npyFile(t, "w.npy", "<f4", false, square), npyFile(t, "wide.npy", "<f4", false, oracle.Gaussian(2, 4, 5))
	s := npyFile(t, "s.npy", "<f4", false, symmetric)
	nan, inf := npyFile(t, "nan.npy", "<f4", false, with(square, 1, 2, math.NaN())), npyFile(t, "inf.npy", "<f8", true, with(square, 3, 0, math.Inf(-1)))
	huge := npyFile(t, "huge.npy", "<f8", false, with(square, 0, 0, 1e300))
	slanted := npyFile(t, "slanted.npy", "<f4", false, with(symmetric, 0, 1, symmetric.At(0, 1)+1e-3))
	content, err := os.ReadFile(w)
	if err != nil {
		t.Fatal(err)
	}
	short := file(t, "short.npy", string(content[:len(content)-5]))
	integers := filepath.Join("..", "npy", "testdata", "int64.npy")
	vector := filepath.Join(t.TempDir(), "vector.npy")
	if err := npy.Write(vector, []int{3}, []float32{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	batch := filepath.Join(t.TempDir(), "batch.npy")
	if err := npy.Write(batch, []int{2, 2, 2}, []float32{1, 0, 0, 1, 1, 3, 2, 1}); err != nil {
		t.Fatal(err)
	}
	tensors := filepath.Join(t.TempDir(), "w.safetensors")
	if err := safetensors.Write(tensors, []safetensors.Tensor{safetensors.FromFloat32("w", []int{2, 2}, []float32{1, 2, 3, 4}), {Name: "n", DType: "I32", Shape: []int{1, 1}, Data: make([]byte, 4)}}, nil); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s") // stands for a device, which a rename would replace
	listener := need[net.Listener](t)(net.Listen("unix", socket))
	defer listener.Close()
	for _, c := range []struct {
		args   string
		status int
		want   []string
	}{
		{"msign " + nan + " -o OUT", statusFailed, []string{nan, "[1, 2]", "nan", "finite"}},
		{"msign " + inf + " -o OUT", statusFailed, []string{inf, "[3, 0]", "inf", "finite"}},
		{"tangent-stiefel " + w + " " + nan + " -o OUT", statusFailed, []string{nan, "nan", "finite"}},
		{"spectral-norm " + nan, statusFailed, []string{nan, "nan", "finite"}},
		{"hardcap --beta 1e200 " + huge + " -o OUT", statusFailed, []string{"[0, 0]", "finite"}},
		{"msign --schedule jordan " + huge + " -o OUT", statusFailed, []string{huge, "[0, 0]", "finite"}},
		{"eig-clip --lo 0 --hi 1 " + wide + " -o OUT", statusFailed, []string{wide, "(4, 5)", "square"}},
		{"psd " + w + " -o OUT", statusFailed, []string{w, "not symmetric", "1e-05"}},
		{"eig-step --alpha 0 " + slanted + " -o OUT", statusFailed, []string{slanted, "not symmetric"}},
		{"tangent-psd " + w + " " + s + " -o OUT", statusFailed, []string{w, "not symmetric"}},
		{"nsd " + batch + " -o OUT", statusFailed, []string{"matrix [1] of " + batch, "not symmetric"}},
		{"invsqrt " + w + " -o OUT", statusFailed, []string{w, "not symmetric"}},
		{"invsqrt " + s + " -o OUT", statusFailed, []string{s, "not positive semidefinite", "-1"}},
		{"tangent-ball --radius 1 " + w + " " + wide + " -o OUT", statusFailed, []string{w, "(4, 4)", wide, "(4, 5)"}},
		{"msign " + vector + " -o OUT", statusFailed, []string{vector, "(3,)", "matrix"}},
		{"msign nowhere.npy -o OUT", statusFailed, []string{"nowhere.npy", "no such file"}},
		{"msign " + short + " -o OUT", statusFailed, []string{short, "truncated"}},
		{"msign " + integers + " -o OUT", statusFailed, []string{integers, "integers", "float32"}},
		{"msign " + filepath.Dir(w) + " -o OUT", statusFailed, []string{"folder"}},
		{"msign " + tensors + " -o OUT", statusUsage, []string{tensors, ":NAME", "w"}},
		{"msign " + tensors + ":v -o OUT", statusFailed, []string{tensors, `"v"`, "w"}},
		{"msign " + tensors + ":n -o OUT", statusFailed, []string{tensors, `"n"`, "I32"}},
		{"msign nowhere.safetensors:w -o OUT", statusFailed, []string{"nowhere.safetensors"}},
		{"", statusUsage, []string{"no function", "msign, invsqrt"}},
		{"msgin " + w + " -o OUT", statusUsage, []string{`unknown function "msgin"`, "did you mean msign?", "tangent-stiefel"}},
		{"svd " + w + " -o OUT", statusUsage, []string{`unknown function "svd"`, "msign, invsqrt"}},
		{"msign " + w, statusUsage, []string{"msign has no output", "-o OUT.npy"}},
		{"msign -o OUT", statusUsage, []string{"msign takes one matrix, got 0", "polar matrix msign IN.npy"}},
		{"msign " + w + " " + w + " -o OUT", statusUsage, []string{"msign takes one matrix, got 2"}},
		{"tangent-ball --radius 1 " + w + " -o OUT", statusUsage, []string{"two matrices, W and then X, got 1", "W.npy X.npy"}},
		{"spectral-norm " + w + " -o OUT", statusUsage, []string{"prints a number"}},
		{"msign " + w + " -o OUT.safetensors", statusUsage, []string{"OUT.safetensors", ".npy"}},
		{"msign " + w + " -o " + filepath.Dir(w), statusUsage, []string{"is a folder"}},
		{"msign " + w + " -o nowhere/OUT", statusUsage, []string{"no folder nowhere"}},
		{"msign " + w + " -o " + socket, statusUsage, []string{socket, "want a file"}},
		{"clip --lo 0 --hi", statusUsage, []string{"--hi", "nothing follows"}},
		{"clip --lo 0 " + w + " -o OUT", statusUsage, []string{"clip wants --hi"}},
		{"clip " + w + " -o OUT", statusUsage, []string{"clip wants --lo and --hi"}},
		{"clip --lo 2 --hi 1 " + w + " -o OUT", statusUsage, []string{"--lo 2 is above --hi 1"}},
		{"clip --lo -2 --hi -1 " + w + " -o OUT", statusUsage, []string{"--hi is -1"}},
		{"hardcap --beta -1 " + w + " -o OUT", statusUsage, []string{"--beta is -1"}},
		{"hardcap --beta nan " + w + " -o OUT", statusUsage, []string{"--beta is NaN, want a finite number"}},
		{"hardcap --beta -inf " + w + " -o OUT", statusUsage, []string{"--beta is -Inf, want a finite number"}},
		{"hardcap --beta x " + w + " -o OUT", statusUsage, []string{"--beta", "x"}},
		{"hardcap --beta 1 --alpha 1 " + w + " -o OUT", statusUsage, []string{"--alpha has no effect on hardcap", "relu, eig-relu, eig-step"}},
		{"msign --tol 1 " + w + " -o OUT", statusUsage, []string{"--tol has no effect on msign", "tangent-psd"}},
		{"clipped-decay --beta 1 --lambda 1.5 " + w + " -o OUT", statusUsage, []string{"--lambda is 1.5"}},
		{"tangent-ball --radius 0 " + w + " " + w + " -o OUT", statusUsage, []string{"--radius is 0"}},
		{"tangent-band --lo 0 --hi 1 " + w + " " + w + " -o OUT", statusUsage, []string{"--lo is 0"}},
		{"tangent-psd --tol -1 " + s + " " + w + " -o OUT", statusUsage, []string{"--tol is -1"}},
		{"msign --schedule polar-expres " + w + " -o OUT", statusUsage, []string{`--schedule: unknown value "polar-expres"`, "did you mean polar-express?"}},
		{"msign --schedule exact+finish " + w + " -o OUT", statusUsage, []string{`"exact+finish"`}},
		{"invsqrt --schedule jordan " + s + " -o OUT", statusUsage, []string{`"jordan" for invsqrt`, "exact, lora-muon"}},
		{"spectral-norm --schedule jordan " + w, statusUsage, []string{"--schedule has no effect on spectral-norm"}},
		{"msign --form nested " + w + " -o OUT", statusUsage, []string{"msign has direct, gram"}},
		{"psd --form direct " + s + " -o OUT", statusUsage, []string{"psd has one form only"}},
		{"msign --backend tpu " + w + " -o OUT", statusFailed, []string{`unknown backend "tpu"`}},
	} {
		t.Run(c.args, func(t *testing.T) {
			dir := t.TempDir()
			args := strings.Fields("matrix " + strings.ReplaceAll(c.args, "OUT", filepath.Join(dir, "OUT")))
			status, stdout, stderr := real(t, args...)
			lines := strings.Split(strings.TrimRight(stderr, "\n"), "\n")
			if status != c.status || stdout != "" || len(lines) > 2 || !strings.HasPrefix(lines[0], "polar: ") {
				t.Errorf("status %d, want %d; output %q; want one line and at most a hint:\n%s", status, c.status, stdout, stderr)
			}
			mustSay(t, stderr, c.want...)
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
