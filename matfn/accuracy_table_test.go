package matfn

import (
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"

	"github.com/gomlx/compute/dtypes"
	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

var update = flag.Bool("update", false,
	"let TestAccuracyTable measure all shapes and write docs/matrix-functions.md and bench/results/matfn-accuracy.md")

// tiny and huge are about 1e-12 and 1e12: powers of two, so that nothing is rounded and the oracle is that of scale one.
const (
	tiny = 0x1p-40
	huge = 0x1p40
)

// accuracyShapes are the shapes of the table: default ones, ones with -long, ones with -update.
var accuracyShapes = []struct {
	m, n   int
	scales []float64
	effort int // 0 always, 1 with -long, 2 with -update
}{
	{1, 1, []float64{1}, 0},
	{1, 7, []float64{1}, 0},
	{7, 1, []float64{1}, 0},
	{8, 8, []float64{tiny, 1, huge}, 0},
	{24, 24, []float64{1}, 0},
	{5, 9, []float64{tiny, 1, huge}, 0},
	{40, 16, []float64{1}, 0},
	{128, 128, []float64{tiny, 1, huge}, 1},
	{64, 256, []float64{tiny, 1, huge}, 1},
	{512, 512, []float64{1}, 2},
	{1024, 256, []float64{1}, 2},
	{1024, 1024, []float64{1}, 2},
	{1024, 4096, []float64{1}, 2},
}

// large is the longer side from which matrices are measured one at a time, and only in rows that say something new: rounding to
// bfloat16 does not. huge matrices, from 1024 x 1024, are measured in the rows of hugeRows alone, because a blockwise cap takes a
// minute for one of 1024 x 4096.
const large = 512

var hugeRows = []string{"Msign", "SpectralHardcap 0.3", "SpectralClip [0.05, 0.5]", "EigClip [-0.3, 0.2]", "EigStep 0.25", "InvSqrt"}

// measures reports whether the row is measured for a shape.
func (r accuracyRow) measures(m, n int) bool {
	switch {
	case r.kind != anyMatrix && m != n:
		return false
	case max(m, n) < large:
		return true
	case r.precision == "bfloat16", r.precision == "exact" && (r.form == "nested" || r.form == "blockwise"):
		return false
	case m*n >= 1<<20 && !slices.Contains(hugeRows, r.function):
		return false
	}
	return r.form != "blockwise" || r.function == "SpectralHardcap 0.3"
}

// measuresCond reports whether a condition number is measured for a shape: one or two of them from 512 on.
func measuresCond(m, n, cond int) bool {
	switch {
	case m*n >= 1<<20:
		return accuracyConds[cond] == 1e2
	case max(m, n) >= large:
		return accuracyConds[cond] == 1e2 || accuracyConds[cond] == 1e6
	}
	return true
}

// measurement is the error of a row somewhere; indices into accuracyRows, accuracyShapes and accuracyConds.
type measurement struct {
	row, shape, cond int
	scale, off       float64
}

// measureShape measures the rows of one shape.
func measureShape(t *testing.T, rows []accuracyRow, shape int) (out []measurement) {
	s := accuracyShapes[shape]
	inputs := map[bool][]*decomposed{} // by whether rounded to bfloat16
	for kind := anyMatrix; kind <= definiteMatrix; kind++ {
		clear(inputs)
		for _, dtype := range []dtypes.DType{dtypes.Float32, dtypes.Float64, dtypes.BFloat16} {
			var part []accuracyRow
			var at []int
			for i, r := range rows {
				if r.kind == kind && r.dtype == dtype && r.measures(s.m, s.n) {
					part, at = append(part, r), append(at, i)
				}
			}
			if len(part) == 0 {
				continue
			}
			half := dtype == dtypes.BFloat16
			if inputs[half] == nil {
				for j, cond := range accuracyConds {
					var input *decomposed
					if measuresCond(s.m, s.n, j) {
						input = accuracyInput(t, kind, s.m, s.n, cond, half)
					}
					inputs[half] = append(inputs[half], input)
				}
			}
			rowsAtOnce, matrices := len(part), len(accuracyConds)
			if max(s.m, s.n) >= large {
				rowsAtOnce, matrices = 1, 1
			}
			for _, scale := range s.scales {
				for i := 0; i < len(part); i += rowsAtOnce {
					for j := 0; j < len(accuracyConds); j += matrices {
						if !measuresCond(s.m, s.n, j) {
							continue
						}
						for k, offs := range measure(t, part[i:i+rowsAtOnce], inputs[half][j:j+matrices], scale) {
							for l, off := range offs {
								out = append(out, measurement{at[i+k], shape, j + l, scale, off})
							}
						}
					}
				}
			}
		}
	}
	return out
}

// TestAccuracyTable holds all functions, forms and precisions against SVD and eigendecomposition in float64, over shapes, condition
// numbers and scales. With -update it measures everything and writes the tables of the documents.
func TestAccuracyTable(t *testing.T) {
	rows := accuracyRows()
	var all []measurement
	for effort, name := range []string{"short", "long", "full"} {
		t.Run(name, func(t *testing.T) {
			if effort == 1 && !*update {
				check.Long(t)
			}
			if effort == 2 && !*update {
				t.Skip("ten minutes: run with -update")
			}
			for i, s := range accuracyShapes {
				if s.effort == effort {
					start := time.Now()
					measured := measureShape(t, rows, i)
					t.Logf("%d x %d in %v", s.m, s.n, time.Since(start).Round(time.Second))
					checkLimits(t, rows, measured)
					all = append(all, measured...)
				}
			}
		})
	}
	if *update { // also when a limit failed: the table is what was measured
		writeTables(t, rows, all)
	}
}

func checkLimits(t *testing.T, rows []accuracyRow, measured []measurement) {
	t.Helper()
	for _, m := range measured {
		r, s := rows[m.row], accuracyShapes[m.shape]
		limit := r.limits[m.cond]
		if !(m.off <= limit) && !math.IsInf(limit, 1) {
			t.Errorf("%s %s %s, %d x %d, condition %g, scale %.0e: off by %.2g, limit %.2g",
				r.function, r.form, r.precision, s.m, s.n, accuracyConds[m.cond], m.scale, m.off, limit)
		}
	}
}

// TestAccuracyTableBites gives every function a matrix that is 3 % off: all limits must notice, whether the function acts on
// large or on small singular values.
func TestAccuracyTableBites(t *testing.T) {
	rows := accuracyRows()
	for kind := anyMatrix; kind <= definiteMatrix; kind++ {
		for _, dtype := range []dtypes.DType{dtypes.Float32, dtypes.Float64, dtypes.BFloat16} {
			d := accuracyInput(t, kind, 24, 24, 1e2, dtype == dtypes.BFloat16)
			noise := oracle.Gaussian(9, 24, 24)
			noise.Add(noise, mat.DenseCopyOf(noise.T()))
			noise.Scale(0.03*mat.Norm(d.x, 2)/mat.Norm(noise, 2), noise)
			if kind == definiteMatrix { // and stays positive
				noise = scaled(0.03, d.x)
			}
			d.x.Add(d.x, noise)
			for _, r := range rows {
				if r.kind != kind || r.dtype != dtype {
					continue
				}
				if off := measure(t, []accuracyRow{r}, []*decomposed{d}, 1)[0][0]; off <= r.limits[1] {
					t.Errorf("%s %s %s: another matrix passes, off by %.2g, limit %.2g", r.function, r.form, r.precision, off, r.limits[1])
				}
			}
		}
	}
}

// worst returns the largest error among measurements that pass, and false if there are none.
func worst(all []measurement, pass func(m measurement) bool) (off float64, ok bool) {
	for _, m := range all {
		if pass(m) && !math.IsNaN(m.off) {
			off, ok = max(off, m.off), true
		}
	}
	return off, ok
}

// figure prints an error of the table.
func figure(off float64, ok bool) string {
	switch {
	case !ok:
		return "–"
	case off == 0:
		return "0"
	}
	return fmt.Sprintf("%.0e", off)
}

// writeTables writes what was measured: a summary into the documentation, everything into bench/results.
func writeTables(t *testing.T, rows []accuracyRow, all []measurement) {
	t.Helper()
	const doc, results = "../docs/matrix-functions.md", "../bench/results/matfn-accuracy.md"
	const begin, end = "<!-- accuracy table: begin -->\n", "<!-- accuracy table: end -->\n"
	text := string(must[[]byte](t)(os.ReadFile(doc)))
	before, rest, ok := strings.Cut(text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", doc)
	}
	if err := os.WriteFile(doc, []byte(before+begin+summary(rows, all)+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(results, []byte(fullTables(rows, all)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// summary is one line a function and form: float32 by condition number, the worst of bfloat16, and float64.
func summary(rows []accuracyRow, all []measurement) string {
	var b strings.Builder
	b.WriteString("| function | form | cond 1 | 1e2 | 1e4 | 1e6 | half rank | bfloat16 | exact, cond ≤ 1e4 | 1e6 |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|\n")
	seen := map[string]bool{}
	for _, first := range rows {
		if seen[first.function+first.form] {
			continue
		}
		seen[first.function+first.form] = true
		column := func(precision string, conds ...int) string {
			return figure(worst(all, func(m measurement) bool {
				r := rows[m.row]
				if r.function != first.function || r.form != first.form || r.precision != precision {
					return false
				}
				for _, c := range conds {
					if m.cond == c {
						return !math.IsInf(r.limits[c], 1)
					}
				}
				return false
			}))
		}
		fmt.Fprintf(&b, "| %s | %s |", first.function, first.form)
		for c := range accuracyConds {
			fmt.Fprintf(&b, " %s |", column("float32", c))
		}
		fmt.Fprintf(&b, " %s | %s | %s |\n", column("bfloat16", 0, 1, 2, 3, 4), column("exact", 0, 1, 2, 4), column("exact", 3))
	}
	return b.String()
}

// fullTables are all rows by condition number with their limits, and by shape, and the difference that scale makes.
func fullTables(rows []accuracyRow, all []measurement) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Accuracy of the matrix functions

Written by

    GOEXPERIMENT=simd go test ./matfn -run TestAccuracyTable -update -timeout 3h

on %s/%s, %s. Errors in the Frobenius norm relative to the result, against gonum's SVD or eigendecomposition in float64
of the same input; for Msign without a finish only in directions of singular values above 1e-4·‖x‖_F. Inputs have norm one, singular
values evenly spaced in the logarithm, random singular vectors; those of half the rank are products of matrices of -1, 0 and 1.
"–" is not measured or not promised. The test's limits are in brackets.

## By condition number, worst over shapes and scales

| function | form | precision |`, runtime.GOOS, runtime.GOARCH, runtime.Version())
	for _, c := range accuracyConds {
		b.WriteString(map[bool]string{true: " half rank |", false: fmt.Sprintf(" %.0e |", c)}[c == 0])
	}
	b.WriteString("\n|---|---|---|" + strings.Repeat("---|", len(accuracyConds)) + "\n")
	for i, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s |", r.function, r.form, r.precision)
		for c := range accuracyConds {
			off, ok := worst(all, func(m measurement) bool { return m.row == i && m.cond == c })
			limit := "none"
			if !math.IsInf(r.limits[c], 1) {
				limit = fmt.Sprintf("%.0e", r.limits[c])
			}
			fmt.Fprintf(&b, " %s (%s) |", figure(off, ok), limit)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## By shape, worst over condition numbers with a limit and scales\n\n| function | form | precision |")
	for _, s := range accuracyShapes {
		fmt.Fprintf(&b, " %dx%d |", s.m, s.n)
	}
	b.WriteString("\n|---|---|---|" + strings.Repeat("---|", len(accuracyShapes)) + "\n")
	for i, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s |", r.function, r.form, r.precision)
		for s := range accuracyShapes {
			fmt.Fprintf(&b, " %s |", figure(worst(all, func(m measurement) bool {
				return m.row == i && m.shape == s && !math.IsInf(r.limits[m.cond], 1)
			})))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## By scale, worst over all functions, 8x8, 5x9, 64x256 and 128x128\n\n")
	b.WriteString("| precision | 1e-12 | 1 | 1e12 |\n|---|---|---|---|\n")
	for _, p := range []string{"float32", "bfloat16", "exact"} {
		fmt.Fprintf(&b, "| %s |", p)
		for _, scale := range []float64{tiny, 1, huge} {
			off, _ := worst(all, func(m measurement) bool {
				return rows[m.row].precision == p && m.scale == scale && len(accuracyShapes[m.shape].scales) == 3 &&
					!math.IsInf(rows[m.row].limits[m.cond], 1) && rows[m.row].function != "Msign, finish"
			})
			fmt.Fprintf(&b, " %.4g |", off)
		}
		b.WriteString("\n")
	}
	return b.String()
}
