package model

import (
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
)

// smallPositions is how many positions the small decoders have.
const smallPositions = 136

// small returns a decoder of an architecture with two layers, four heads in two groups (where it may) and a change.
func small(architecture string, change func(c *Config)) Config {
	c, err := Base(architecture)
	if err != nil {
		panic(err)
	}
	c.VocabSize, c.Hidden, c.Intermediate, c.Layers, c.Heads, c.KVHeads, c.MaxPositions = 23, 16, 20, 2, 4, 2, smallPositions
	if architecture == "gpt2" || architecture == "lab" {
		c.KVHeads = 4
	}
	if change != nil {
		change(&c)
	}
	return c
}

// decoderCase is a decoder that the tests ask everything of.
type decoderCase struct {
	name string
	cfg  Config
}

// decoderCases covers every architecture and every field of Config.
func decoderCases() []decoderCase {
	llama3 := RopeScaling{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositions: 32}
	return []decoderCase{
		{"llama", small("llama", func(c *Config) { c.HeadDim = 6 })}, // heads wider together than the model
		{"llama tied with biases", small("llama", func(c *Config) {
			c.TiedEmbeddings, c.AttentionBias, c.QKVBias, c.MLPBias, c.KVHeads = true, true, true, true, 1
			c.Rope.Scaling = RopeScaling{Type: "linear", Factor: 2}
		})},
		{"llama3 rope", small("llama", func(c *Config) { c.Rope.Base, c.Rope.Scaling = 20, llama3 })},
		{"mistral window", small("mistral", func(c *Config) { c.SlidingWindow = 3 })},
		{"qwen2", small("qwen2", nil)},
		{"qwen3 tied", small("qwen3", func(c *Config) { c.TiedEmbeddings, c.HeadDim = true, 8 })},
		{"gpt2", small("gpt2", nil)},
		{"gpt2 untied erf", small("gpt2", func(c *Config) { c.TiedEmbeddings, c.Activation = false, GELU })},
		{"lab", small("lab", nil)},
		{"lab learned gated", small("lab", func(c *Config) {
			c.Positions, c.Rope, c.Activation, c.Gated, c.QKNorm, c.KVHeads, c.MLPBias = Learned, Rope{}, GELUTanh, true, NormNone, 2, true
		})},
	}
}

// net is a decoder with random weights, also of norms and biases, which Init would leave at one and zero.
type net struct {
	*Decoder
	store   *mlmodel.Store
	weights map[string][]float32
}

func newNet(t testing.TB, cfg Config) net {
	t.Helper()
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := net{d, mlmodel.NewStore(), map[string][]float32{}}
	for i, p := range d.Parameters() {
		n.set(p, randomWeight(uint64(i), p))
	}
	return n
}

// randomWeight draws entries of variance 1/fan-in for matrices, about 1 for embeddings, 1 ± 0.5 for gains and ±0.5 for biases.
func randomWeight(seed uint64, p Tensor) []float32 {
	if len(p.Shape) == 1 {
		out := random(seed, 0.5, p.Shape...).values
		if p.Name[len(p.Name)-7:] == ".weight" {
			for i := range out {
				out[i]++
			}
		}
		return out
	}
	scale := math.Sqrt(3 / float64(p.Shape[1]))
	if p.Role == "embedding" {
		scale = 1
	}
	return random(seed, scale, p.Shape...).values
}

// zeros returns a store with the decoder's variables, all zero.
func zeros(d *Decoder) *mlmodel.Store {
	store := mlmodel.NewStore()
	for _, p := range d.Parameters() {
		store.VariableWithValue(p.Path(), tensors.FromScalarAndDimensions(float32(0), p.Shape...))
	}
	return store
}

// set gives a tensor a value.
func (n net) set(p Tensor, values []float32) {
	n.weights[p.Name] = values
	value := tensors.FromFlatDataAndDimensions(values, p.Shape...)
	if v := n.store.GetVariable(p.Path()); v != nil {
		if err := v.SetValue(value); err != nil {
			panic(err)
		}
		return
	}
	n.store.VariableWithValue(p.Path(), value)
}

// tensor returns the description of a tensor by its name.
func (n net) tensor(t *testing.T, name string) Tensor {
	t.Helper()
	for _, p := range n.Parameters() {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("the decoder has no tensor %s", name)
	return Tensor{}
}

// plain returns the reference with the same weights.
func (n net) plain() plain {
	p := plain{n.Config(), map[string][]float64{}}
	for name, values := range n.weights {
		p.weights[name] = wide(values)
	}
	return p
}

// batch is what a decoder reads. Segments and positions may be nil.
type batch struct {
	rows, length                         int
	tokens, targets, segments, positions []int32
	weights                              []float32
}

// randomBatch returns plain rows with random tokens, targets and weights, some of them 0.
func randomBatch(seed uint64, vocabulary, rows, length int) batch {
	b := batch{rows: rows, length: length}
	draw := random(seed, 0.5, rows*length, 3).values
	for i := range rows * length {
		token := func(x float32) int32 { return int32(float64(x+0.5) * float64(vocabulary)) }
		b.tokens, b.targets = append(b.tokens, token(draw[3*i])), append(b.targets, token(draw[3*i+1]))
		b.weights = append(b.weights, max(0, draw[3*i+2]+0.3))
	}
	return b
}

func (b batch) args() []any {
	ids := func(x []int32) any { return tensors.FromFlatDataAndDimensions(x, b.rows, b.length) }
	args := []any{ids(b.tokens), ids(b.targets), tensors.FromFlatDataAndDimensions(b.weights, b.rows, b.length)}
	if b.segments != nil {
		args = append(args, ids(b.segments), ids(b.positions))
	}
	return args
}

func (b batch) inputs(in []*Node) Inputs {
	x := Inputs{Tokens: in[0], Targets: in[1], Weights: in[2]}
	if b.segments != nil {
		x.Segments, x.Positions = in[3], in[4]
	}
	return x
}

func (b batch) plainRows() (rows []plainRow) {
	for r := range b.rows {
		from, to := r*b.length, (r+1)*b.length
		row := plainRow{tokens: b.tokens[from:to]}
		if b.segments != nil {
			row.segments, row.positions = b.segments[from:to], b.positions[from:to]
		}
		rows = append(rows, row)
	}
	return rows
}

// logits returns the plain logits of a batch.
func (p plain) batchLogits(b batch) (out [][]float64) {
	for _, row := range b.plainRows() {
		out = append(out, p.logits(row)...)
	}
	return out
}

// loss returns the plain weighted sum of a batch.
func (p plain) loss(b batch) (total float64) {
	for i, logits := range p.batchLogits(b) {
		total += float64(b.weights[i]) * plainCrossEntropy(logits, b.targets[i])
	}
	return total
}

// logits runs Logits.
func (n net) logits(t testing.TB, b batch, opts Options) []float32 {
	t.Helper()
	return run(t, n.store, b.args(), func(in []*Node) []*Node { return []*Node{n.Logits(n.store, b.inputs(in), opts)} })[0]
}

// lossAndGradients runs Loss: the sum, the weights' sum, and the gradient of every tensor in the order of Parameters.
func (n net) lossAndGradients(t testing.TB, b batch, opts Options) (loss, weights float32, gradients [][]float32) {
	t.Helper()
	out := run(t, n.store, b.args(), func(in []*Node) []*Node {
		loss, weights := n.Loss(n.store, b.inputs(in), opts)
		var values []*Node
		for _, p := range n.Parameters() {
			values = append(values, n.store.GetVariable(p.Path()).NodeValue(in[0].Graph()))
		}
		return append([]*Node{loss, weights}, Gradient(loss, values...)...)
	})
	return out[0][0], out[1][0], out[2:]
}
