package model

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/vjp"
	"github.com/polargo/polar/param"
)

// generator returns a generator of n for texts of at most length tokens.
func (n net) generator(t *testing.T, opts Options, length int) *Generator {
	t.Helper()
	g, err := NewGenerator(check.Backend(t), n.store, n.Decoder, opts, length)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// generate continues a prompt.
func generate(t *testing.T, g *Generator, prompt []int, sample SampleConfig) []int {
	t.Helper()
	out, err := g.Generate(context.Background(), prompt, sample, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// prompt returns random tokens.
func prompt(seed uint64, vocabulary, length int) (tokens []int) {
	for _, token := range randomBatch(seed, vocabulary, 1, length).tokens {
		tokens = append(tokens, int(token))
	}
	return tokens
}

// largest returns the index of the largest number.
func largest(x []float32) int { return slices.Index(x, slices.Max(x)) }

// greedyLengths are prompts around the chunks of 64, and one whose text ends at the model's last position.
var greedyLengths = []int{1, 2, 63, 64, 65, 130}

const greedyTokens = smallPositions - 130

// TestGenerateGreedy: with the cache the same tokens come out as a full forward pass over the whole text finds likeliest, in
// every decoder (the window is shorter than the texts, the learned positions are used to the last).
func TestGenerateGreedy(t *testing.T) {
	forEach(t, func(t *testing.T, n net) {
		g := n.generator(t, Options{}, smallPositions)
		full := n.fullPass(t, Options{})
		for _, length := range greedyLengths {
			text := prompt(uint64(length), n.cfg.VocabSize, length)
			out := generate(t, g, text, SampleConfig{MaxTokens: greedyTokens})
			if len(out) != greedyTokens {
				t.Fatalf("%d tokens for a prompt of %d, want %d", len(out), length, greedyTokens)
			}
			logits := full(append(text, out...))
			for i, token := range out {
				if want := largest(logits[length-1+i]); token != want {
					t.Errorf("prompt of %d: token %d is %d, a full pass says %d", length, i, token, want)
				}
			}
		}
	})
}

// fullPass returns a function from a text to the logits of each of its tokens, by Logits, compiled once.
func (n net) fullPass(t *testing.T, opts Options) func(text []int) [][]float32 {
	exec, err := mlmodel.NewExec(check.Backend(t), n.store, func(_ *mlmodel.Scope, tokens *Node) *Node {
		return n.Logits(n.store, Inputs{Tokens: tokens}, opts)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(exec.Finalize)
	return func(text []int) (rows [][]float32) {
		tokens := make([]int32, smallPositions) // what fills it up is not seen
		for i, token := range text {
			tokens[i] = int32(token)
		}
		out, err := exec.Call1(tensors.FromFlatDataAndDimensions(tokens, 1, smallPositions))
		if err != nil {
			t.Fatal(err)
		}
		for row := range slices.Chunk(tensors.MustCopyFlatData[float32](out), n.cfg.VocabSize) {
			rows = append(rows, row)
		}
		return rows[:len(text)]
	}
}

// TestGenerateLogits: reading a prompt and adding tokens gives the logits of a full pass; one token dropped does not.
func TestGenerateLogits(t *testing.T) {
	forEach(t, func(t *testing.T, n net) {
		g := n.generator(t, Options{}, smallPositions)
		full := n.fullPass(t, Options{})
		for _, length := range append(greedyLengths, smallPositions-2) { // and up to reading the last position
			text := prompt(uint64(length), n.cfg.VocabSize, length+2)
			want := full(text)
			got, err := g.read(context.Background(), text[:length])
			for i := length; err == nil; i++ {
				check.Close(t, "logits", got, want[i-1], logitsTol)
				if i == len(text) {
					break
				}
				bites(t, "logits one token earlier", wide(got), wide(want[i]), logitsTol)
				got, err = g.extend([]int{text[i]}, 1, i)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestGenerateSeeds: the same seed gives the same text, from a used generator and from a new one; another seed another text.
func TestGenerateSeeds(t *testing.T) {
	n := newNet(t, small("llama", nil))
	g := n.generator(t, Options{}, 60)
	text := prompt(1, n.cfg.VocabSize, 5)
	sample := SampleConfig{Temperature: 1, MaxTokens: 40, Seed: 7}
	first := generate(t, g, text, sample)
	other := sample
	other.Seed = 0
	if slices.Equal(generate(t, g, text, other), first) {
		t.Error("two seeds gave the same 40 tokens")
	}
	generate(t, g, prompt(2, n.cfg.VocabSize, 20), sample) // leaves nothing behind
	if again := generate(t, g, text, sample); !slices.Equal(again, first) {
		t.Errorf("got %v again, first %v", again, first)
	}
	if fresh := generate(t, n.generator(t, Options{}, 60), text, sample); !slices.Equal(fresh, first) {
		t.Errorf("a new generator gave %v, not %v", fresh, first)
	}
}

// TestGenerateEnds: at a stop token, which is not returned, after MaxTokens, and where the text is full.
func TestGenerateEnds(t *testing.T) {
	n := newNet(t, small("llama", nil))
	g := n.generator(t, Options{}, 30)
	text := prompt(3, n.cfg.VocabSize, 5)
	all := generate(t, g, text, SampleConfig{MaxTokens: 100})
	if len(all) != 25 {
		t.Fatalf("%d tokens after a prompt of 5, want 25 up to the length of 30", len(all))
	}
	stop := all[3]
	before := slices.Index(all, stop)
	if before == 0 {
		t.Fatal("the stop token is the first: nothing would be left")
	}
	for _, c := range []struct {
		name   string
		text   []int
		sample SampleConfig
		want   []int
	}{
		{"stop token", text, SampleConfig{MaxTokens: 100, Stop: []int{stop}}, all[:before]},
		{"one of several stop tokens", text, SampleConfig{MaxTokens: 100, Stop: []int{-1, n.cfg.VocabSize, stop}}, all[:before]},
		{"first token stops", text, SampleConfig{MaxTokens: 100, Stop: all[:1]}, nil},
		{"most tokens", text, SampleConfig{MaxTokens: 7}, all[:7]},
		{"one token", text, SampleConfig{MaxTokens: 1}, all[:1]},
		{"none", text, SampleConfig{}, nil},
		{"one place left", append(slices.Clone(text), all[:24]...), SampleConfig{MaxTokens: 9}, all[24:]},
		{"no place left", append(slices.Clone(text), all...), SampleConfig{MaxTokens: 9}, nil},
	} {
		var heard []int
		out, err := g.Generate(context.Background(), c.text, c.sample, func(token int) error {
			heard = append(heard, token)
			return nil
		})
		if err != nil || !slices.Equal(out, c.want) || !slices.Equal(heard, out) {
			t.Errorf("%s: %v (%v), onToken heard %v, want %v", c.name, out, err, heard, c.want)
		}
	}
}

// TestGenerateRefuses: prompts, settings and lengths that cannot be meant.
func TestGenerateRefuses(t *testing.T) {
	n := newNet(t, small("gpt2", nil))
	g := n.generator(t, Options{}, 10)
	for _, c := range []struct {
		want   string
		prompt []int
		sample SampleConfig
	}{
		{"the prompt has 0 tokens, want 1 to 10", nil, SampleConfig{}},
		{"the prompt has 11 tokens, want 1 to 10", make([]int, 11), SampleConfig{}},
		{"token 1 of the prompt is 23; the model knows 0 to 22", []int{22, 23}, SampleConfig{}},
		{"token 0 of the prompt is -1", []int{-1}, SampleConfig{}},
		{"temperature -1", []int{1}, SampleConfig{Temperature: -1}},
	} {
		out, err := g.Generate(context.Background(), c.prompt, c.sample, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || out != nil {
			t.Errorf("%v, %v, want %q", out, err, c.want)
		}
	}
	for _, length := range []int{0, -1, smallPositions + 1} {
		_, err := NewGenerator(check.Backend(t), n.store, n.Decoder, Options{}, length)
		if err == nil || !strings.Contains(err.Error(), "outside the model's 1 to 136 positions") {
			t.Errorf("a generator for %d tokens: %v", length, err)
		}
	}
}

// TestGenerateStopped: a cancelled context and an error of onToken end the text after the tokens that were heard, and the
// generator works on.
func TestGenerateStopped(t *testing.T) {
	n := newNet(t, small("llama", nil))
	g := n.generator(t, Options{}, 100)
	text := prompt(1, n.cfg.VocabSize, 70)
	all := generate(t, g, text, SampleConfig{MaxTokens: 9})
	ctx, cancel := context.WithCancel(context.Background())
	heard := 0
	out, err := g.Generate(ctx, text, SampleConfig{MaxTokens: 9}, func(int) error {
		if heard++; heard == 3 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || !slices.Equal(out, all[:3]) {
		t.Errorf("cancelled: %v, %v, want %v", out, err, all[:3])
	}
	if out, err = g.Generate(ctx, text, SampleConfig{MaxTokens: 9}, nil); !errors.Is(err, context.Canceled) || out != nil {
		t.Errorf("cancelled before: %v, %v", out, err)
	}
	full := errors.New("the pipe is closed")
	out, err = g.Generate(context.Background(), text, SampleConfig{MaxTokens: 9}, func(int) error { return full })
	if !errors.Is(err, full) || !slices.Equal(out, all[:1]) {
		t.Errorf("onToken failed: %v, %v, want %v", out, err, all[:1])
	}
	if out = generate(t, g, text, SampleConfig{MaxTokens: 9}); !slices.Equal(out, all) {
		t.Errorf("afterwards %v, before %v", out, all)
	}
}

// TestGenerateNonFinite: damaged weights give an error instead of text, greedy or drawn.
func TestGenerateNonFinite(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1)} {
		n := newNet(t, small("llama", nil))
		p := n.tensor(t, "lm_head.weight")
		n.weights[p.Name][40] = float32(bad)
		n.set(p, n.weights[p.Name])
		g := n.generator(t, Options{}, 20)
		for _, temperature := range []float64{0, 1} {
			out, err := g.Generate(context.Background(), []int{1, 2}, SampleConfig{MaxTokens: 5, Temperature: temperature}, nil)
			if !errors.Is(err, errNonFinite) || out != nil {
				t.Errorf("%g at temperature %g: %v, %v", bad, temperature, out, err)
			}
		}
	}
}

// TestGenerateFollowsWeights: a generator reads the weights that the store holds when it is asked, not those of its making.
func TestGenerateFollowsWeights(t *testing.T) {
	n := newNet(t, small("llama", nil))
	g := n.generator(t, Options{}, smallPositions)
	text := prompt(1, n.cfg.VocabSize, 5)
	before := generate(t, g, text, SampleConfig{MaxTokens: 8})
	p := n.tensor(t, "lm_head.weight")
	n.set(p, random(99, 1, p.Shape...).values)
	after := generate(t, g, text, SampleConfig{MaxTokens: 8})
	if slices.Equal(before, after) {
		t.Error("another head gave the same text")
	}
	if fresh := generate(t, n.generator(t, Options{}, smallPositions), text, SampleConfig{MaxTokens: 8}); !slices.Equal(fresh, after) {
		t.Errorf("a new generator gives %v, the old one %v", fresh, after)
	}
}

// adapted is a linear function that adds a third of the first input to every output of an MLP's last layer.
func (n net) adapted(layers map[string]int) param.Linear {
	return func(x *Node, layer param.Layer) *Node {
		layers[layer.Name]++
		y := vjp.Times(x, n.store.GetVariable(layer.Weight).NodeValue(x.Graph()), 1)
		if !strings.Contains(layer.Name, "down_proj") {
			return y
		}
		return Add(y, BroadcastToDims(MulScalar(SliceAxis(x, 1, AxisRange(0, 1)), 1.0/3), y.Shape().Dimensions...))
	}
}

// TestGenerateLinear: the linear layers come from Options.Linear, every one of them, once.
func TestGenerateLinear(t *testing.T) {
	n := newNet(t, small("llama", nil))
	layers := map[string]int{}
	opts := Options{Linear: n.adapted(layers)}
	text := prompt(1, n.cfg.VocabSize, 20)
	want := n.fullPass(t, opts)(text)
	for _, layer := range n.Layers() {
		if layers[layer.Name] != 1 {
			t.Errorf("%s was built %d times", layer.Name, layers[layer.Name])
		}
	}
	got, err := n.generator(t, opts, 30).read(context.Background(), text)
	if err != nil {
		t.Fatal(err)
	}
	check.Close(t, "logits", got, want[19], logitsTol)
	bites(t, "logits", wide(got), wide(n.fullPass(t, Options{})(text)[19]), logitsTol)
}
