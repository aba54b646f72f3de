package cli

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/backend"
	"github.com/polargo/polar/internal/npy"
)

// matrixCommand is 'polar matrix': one function of matrices in files.
type matrixCommand struct {
	Func     string   `arg:"" optional:"" help:"Function; --help lists them."`
	In       []string `arg:"" optional:"" help:"Matrices: FILE.npy or FILE.safetensors:NAME, float32 or float64, [..., m, n]."`
	Out      string   `short:"o" help:"File to write: .npy, float32, of the input's shape." placeholder:"OUT.npy" group:"output"`
	Lo       *float64 `help:"Lower bound." placeholder:"A" group:"matrix"`
	Hi       *float64 `help:"Upper bound." placeholder:"B" group:"matrix"`
	Beta     *float64 `help:"Upper bound of hardcap, clipped-decay and eig-hardcap." placeholder:"B" group:"matrix"`
	Alpha    *float64 `help:"Lower bound of relu and eig-relu; threshold of eig-step." placeholder:"A" group:"matrix"`
	Lambda   *float64 `help:"clipped-decay: fraction of the excess over --beta that is taken away." placeholder:"L" group:"matrix"`
	Radius   *float64 `help:"Radius of the ball." placeholder:"R" group:"matrix"`
	Tol      *float64 `help:"Width of what counts as at a bound, absolute; without it 1e-3, times ‖W‖ for tangent-psd and times hi - lo for tangent-spectrahedron." placeholder:"T" group:"matrix"`
	Schedule string   `help:"exact (float64, converged), or in float32 with these steps: polar-express, jordan, you-cesista, each also with +finish; invsqrt has lora-muon." default:"exact" group:"matrix"`
	Form     string   `help:"Order of the products: direct or gram for msign; projected, nested or blockwise for clip, hardcap, relu, clipped-decay." default:"auto" group:"matrix"`
	Backend  string   `help:"Compute backend; empty takes $GOMLX_BACKEND or the default." group:"run"`
}

// Help is shown under the flags' summary.
func (*matrixCommand) Help() string {
	width := 0
	for _, f := range matrixFunctions {
		width = max(width, len(f.usage()))
	}
	var list strings.Builder
	for _, f := range matrixFunctions {
		fmt.Fprintf(&list, "    %-*s  %s\n", width, f.usage(), f.summary)
	}
	return "Functions:\n\n" + list.String() + `
Singular values (eigenvalues of invsqrt and eig-step) below 1e-10 of the largest count as zero; msign, clip and relu leave
zeros where they are. The clips are projected unless --form says otherwise; nested ones lose digits where the norm is far
above the bound and cost a tenth less, blockwise ones are as accurate and cost 2.6 times as much for a square matrix.

Examples:

    polar matrix msign W.npy -o O.npy
    polar matrix hardcap --beta 1 model.safetensors:layers.0.weight -o W.npy
    polar matrix eig-clip --lo -0.3 --hi 1e-1 S.npy -o C.npy
    polar matrix tangent-ball --radius 2 W.npy X.npy -o T.npy
    polar matrix spectral-norm W.npy`
}

// Run computes one function.
func (c *matrixCommand) Run(ctx context.Context, p *program) error {
	f, err := c.check()
	if err != nil {
		return err
	}
	engine, err := backend.Open(c.Backend)
	if err != nil {
		return err
	}
	in, err := c.read(engine, f)
	if err != nil {
		return err
	}
	if size := in[0].data.Shape(); size.Dim(-1) > 256 || size.Dim(-2) > 256 {
		p.warnSlow(c.Backend)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.build == nil {
		norms, err := await(ctx, func() ([]float64, error) { return spectralNorms(engine, in[0].data) })
		if err != nil {
			return err
		}
		return printNorms(p, in[0], norms)
	}
	out, err := await(ctx, func() (*tensors.Tensor, error) { return c.compute(engine, f, in) })
	if err != nil {
		return err
	}
	return c.write(p, f, out)
}

// read reads the inputs and checks them against what the function takes.
func (c *matrixCommand) read(engine compute.Backend, f *matrixFunction) ([]matrices, error) {
	var in []matrices
	for _, name := range c.In {
		one, err := readMatrices(engine, name)
		if err != nil {
			return nil, err
		}
		in = append(in, one)
	}
	if len(in) == 2 && !in[0].data.Shape().EqualDimensions(in[1].data.Shape()) {
		return nil, failf("", "%s has the shape %s and %s the shape %s, but %s wants them equal", in[0].name, in[0].shape(), in[1].name, in[1].shape(), f.name)
	}
	if f.symmetric {
		if err := in[0].symmetric(f.name); err != nil {
			return nil, err
		}
	}
	if f.build == nil && in[0].data.Size() == 0 {
		return nil, failf("", "%s is empty: its shape is %s", in[0].name, in[0].shape())
	}
	if exact := c.Schedule == "exact"; !exact {
		for _, one := range in {
			if at, value, found := one.beyondFloat32(); found {
				return nil, failf("leave --schedule out: the exact functions are computed in float64",
					"%s: element %s is %g, which is not finite in float32, the type of --schedule %s", one.name, at, value, c.Schedule)
			}
		}
	}
	return in, nil
}

// compute returns the function of the inputs in float32.
func (c *matrixCommand) compute(engine compute.Backend, f *matrixFunction, in []matrices) (*tensors.Tensor, error) {
	if in[0].data.Size() == 0 {
		return in[0].data, nil
	}
	if f.definite {
		if err := in[0].definite(engine, f.name); err != nil {
			return nil, err
		}
	}
	dtype := dtypes.Float32
	if c.Schedule == "exact" {
		dtype = dtypes.Float64
	}
	exec, err := NewExec(engine, func(in []*Node) *Node {
		for i := range in {
			in[i] = ConvertDType(in[i], dtype)
		}
		return ConvertDType(f.build(c, in, c.options(f)), dtypes.Float32)
	})
	if err != nil {
		return nil, err
	}
	defer exec.Finalize()
	var args []any
	for _, one := range in {
		args = append(args, one.data)
	}
	return exec.Call1(args...)
}

// write writes the result, unless an element of it is beyond float32.
func (c *matrixCommand) write(p *program, f *matrixFunction, out *tensors.Tensor) error {
	shape := out.Shape().Dimensions
	if at, value, found := firstNotFinite(out); found {
		return failf("", "%s: element %s of the result is %s: not finite in float32, the type of the output; nothing was written", f.name, at, value)
	}
	var failed error
	if err := tensors.ConstFlatData(out, func(flat []float32) { failed = npy.Write(c.Out, shape, flat) }); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	_, err := fmt.Fprintf(p.stdout, "%s: wrote %s, float32 %s\n", f.name, c.Out, npy.ShapeText(shape))
	return err
}

// printNorms prints one norm a line, in the order of the batch.
func printNorms(p *program, in matrices, norms []float64) error {
	for _, norm := range norms {
		if math.IsInf(norm, 0) {
			return failf("", "the spectral norm of %s is not finite in float64", in.name)
		}
	}
	for _, norm := range norms {
		if _, err := fmt.Fprintln(p.stdout, strconv.FormatFloat(norm, 'g', 10, 64)); err != nil {
			return err
		}
	}
	return nil
}

// checkOut refuses an output that could not be written, before anything is computed.
func checkOut(path string) error {
	if strings.HasSuffix(path, ".safetensors") {
		return usagef("name a .npy file", "%s: the output is one array in NumPy's format, not safetensors", path)
	}
	return checkPlace(path)
}

// checkPlace refuses a path that is a folder, a device or the like, which renaming a file over it would replace, or in no folder.
func checkPlace(path string) error {
	if path == "" {
		return usagef("name a file with -o", "the output has no name")
	}
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		return usagef("name a file in it", "output %s is a folder", path)
	case err == nil && !info.Mode().IsRegular():
		return usagef("", "output %s is a device or a pipe, want a file", path)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return usagef("", "output %s: there is no folder %s", path, filepath.Dir(path))
	}
	return nil
}

// await runs work beside ctx: where ctx ends first, the work is left behind and the program is about to end. A panic of work
// is one of the caller's.
func await[T any](ctx context.Context, work func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
		panic any
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			o.panic = recover()
			done <- o
		}()
		o.value, o.err = work()
	}()
	select {
	case o := <-done:
		if o.panic != nil {
			panic(o.panic)
		}
		return o.value, o.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
