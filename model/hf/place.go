package hf

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/model"
)

// source is a checkpoint whose headers have been checked: where each parameter lies, and its content on demand.
type source interface {
	// find returns where a parameter of the decoder lies; false where the checkpoint has none.
	find(p model.Tensor) (located, bool)
	// names lists every tensor of the checkpoint.
	names() []string
	// read returns the tensor's values as float32 with the shape of the parameter, in backend's memory where it shares it.
	read(at located, p model.Tensor, backend compute.Backend) (*tensors.Tensor, error)
	close()
}

// located is a tensor of a checkpoint.
type located struct {
	name  string
	shape []int // as in the file, outermost dimension first
	want  []int // the shape the file must have for this parameter
}

// place builds the decoder of cfg and fills its parameters from src. Shapes of all tensors are compared before any is read.
func (l *Loaded) place(ctx context.Context, cfg model.Config, src source, opts LoadOptions) (err error) {
	if l.Decoder, err = model.New(cfg); err != nil {
		return err
	}
	places, err := match(l.Decoder, src)
	if err != nil {
		return err
	}
	l.Store = mlmodel.NewStore()
	for i, p := range l.Decoder.Parameters() {
		if err := ctx.Err(); err != nil {
			return err
		}
		value, err := src.read(places[i], p, opts.Backend)
		if err != nil {
			return err
		}
		if err := checkFinite(places[i].name, value); err != nil {
			return err
		}
		l.Store.VariableWithValue(p.Path(), value).SetTrainable(false)
	}
	l.Fingerprint, err = Fingerprint(l.Decoder, l.Store)
	return err
}

// match finds every parameter's tensor; all that are missing, of another shape or unexpected are in the one error.
func match(dec *model.Decoder, src source) ([]located, error) {
	var places []located
	var missing, shaped []string
	used := map[string]bool{}
	for _, p := range dec.Parameters() {
		at, ok := src.find(p)
		switch {
		case !ok:
			missing = append(missing, p.Name)
		case !slices.Equal(at.shape, at.want):
			shaped = append(shaped, fmt.Sprintf("%s is %v, want %v", at.name, at.shape, at.want))
		}
		used[at.name] = true
		places = append(places, at)
	}
	var unexpected []string
	for _, name := range src.names() {
		if !used[name] && !ignorable(name, dec.Config()) {
			unexpected = append(unexpected, name)
		}
	}
	var wrong []string
	for _, group := range []struct {
		title string
		names []string
	}{{"missing", missing}, {"of the wrong shape", shaped}, {"unexpected", unexpected}} {
		if len(group.names) > 0 {
			wrong = append(wrong, fmt.Sprintf("%d %s: %s", len(group.names), group.title, listed(group.names)))
		}
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("the tensors do not fit the configuration: %s", strings.Join(wrong, "; "))
	}
	return places, nil
}

// maxListed is how many names an error spells out.
const maxListed = 8

func listed(names []string) string {
	if len(names) > maxListed {
		return strings.Join(names[:maxListed], ", ") + fmt.Sprintf(" and %d more", len(names)-maxListed)
	}
	return strings.Join(names, ", ")
}

// ignorable are buffers that older checkpoints carry and that follow from the configuration: rotary frequencies, the causal
// mask of GPT-2, and the copy of the embedding that a tied head is. rope_freqs.weight of a GGUF is read with its metadata.
func ignorable(name string, cfg model.Config) bool {
	switch {
	case strings.HasSuffix(name, "rotary_emb.inv_freq"), name == "rope_freqs.weight":
		return true
	case name == "lm_head.weight":
		return cfg.TiedEmbeddings
	case cfg.Architecture == "gpt2":
		return strings.HasSuffix(name, ".attn.bias") || strings.HasSuffix(name, ".attn.masked_bias")
	}
	return false
}

// newTensor allocates a parameter's value where it will be used.
func newTensor(backend compute.Backend, dims []int) (*tensors.Tensor, error) {
	return tensors.FromShapeForBackend(backend, 0, shapes.Make(dtypes.Float32, dims...))
}

// checkFinite refuses NaN and infinity: their exponent bits are all ones.
func checkFinite(name string, value *tensors.Tensor) error {
	bad := -1
	err := tensors.ConstFlatData(value, func(flat []float32) {
		for i, x := range flat {
			if math.Float32bits(x)&0x7f800000 == 0x7f800000 {
				bad = i
				return
			}
		}
	})
	if err != nil {
		return err
	}
	if bad >= 0 {
		return fmt.Errorf("tensor %s holds NaN or infinity (first at element %d): the checkpoint is damaged", name, bad)
	}
	return nil
}

// transpose turns data from [rows, cols] into [cols, rows] through a copy.
func transpose(data []float32, rows, cols int) {
	from := slices.Clone(data)
	for r := range rows {
		for c, x := range from[r*cols : (r+1)*cols] {
			data[c*rows+r] = x
		}
	}
}
