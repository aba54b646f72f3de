package hf

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/polargo/polar/internal/safetensors"
	"github.com/polargo/polar/tokenizer"
)

// keep is for bench/check_hf_roundtrip.py.
var keep = flag.String("keep", "", "folder to keep the models that TestSaveLoad saves in")

// goldens are the folders that transformers wrote.
var goldens = []string{"llama", "llama-tied-linear", "mistral", "qwen2", "qwen3", "gpt2"}

func golden(name string) string { return filepath.Join("..", "..", "testdata", "golden", name) }

func mustLoad(t *testing.T, path string, opts LoadOptions) *Loaded {
	t.Helper()
	l, err := Load(context.Background(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// oneLineError wants one line that holds what is wrong and where.
func oneLineError(t *testing.T, err error, want, where string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), where) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "internal error") {
		t.Errorf("error %v, want one line with %q and %q", err, want, where)
	}
}

func equalWeights(t *testing.T, got, want *Loaded) {
	t.Helper()
	for _, p := range want.Decoder.Parameters() {
		a, b := values(t, got, p.Name), values(t, want, p.Name)
		for i := range b {
			if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
				t.Errorf("%s[%d] is %g, want %g", p.Name, i, a[i], b[i])
				break
			}
		}
	}
}

// TestSaveLoad holds that a saved model loads bit-identical, and that its tensors are those transformers wrote: the same
// names, shapes and bytes in the file (GPT-2's matrices transposed back, a tied head once).
func TestSaveLoad(t *testing.T) {
	for _, name := range goldens {
		t.Run(name, func(t *testing.T) {
			first := mustLoad(t, golden(name), LoadOptions{})
			dir := filepath.Join(t.TempDir(), "out")
			if *keep != "" {
				dir = filepath.Join(*keep, name)
			}
			if err := Save(dir, first.Decoder, first.Store, first.Extra()); err != nil {
				t.Fatal(err)
			}
			second := mustLoad(t, dir, LoadOptions{})
			equalWeights(t, second, first)
			if first.Fingerprint != second.Fingerprint {
				t.Error("another fingerprint")
			}
			equalFiles(t, filepath.Join(dir, weightsFile), filepath.Join(golden(name), weightsFile))
		})
	}
}

func equalFiles(t *testing.T, got, want string) {
	t.Helper()
	a, b := open(t, got), open(t, want)
	names := func(f *safetensors.File) []string { return slices.Sorted(slices.Values(f.Names())) }
	if !slices.Equal(names(a), names(b)) || a.Metadata()["format"] != "pt" {
		t.Fatalf("tensors %v with metadata %v, want %v", names(a), a.Metadata(), names(b))
	}
	for _, name := range a.Names() {
		x, errX := a.Read(name)
		y, errY := b.Read(name)
		if errX != nil || errY != nil || !slices.Equal(x.Shape, y.Shape) || !slices.Equal(x.Data, y.Data) {
			t.Errorf("%s differs (%v, %v)", name, errX, errY)
		}
	}
}

func open(t *testing.T, path string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// checkpoint is a golden's tensors, to be changed and written somewhere else.
func checkpoint(t *testing.T, name string) (config map[string]any, tensors map[string]safetensors.Tensor) {
	t.Helper()
	if err := json.Unmarshal(read(t, filepath.Join(golden(name), "config.json")), &config); err != nil {
		t.Fatal(err)
	}
	f, tensors := open(t, filepath.Join(golden(name), weightsFile)), map[string]safetensors.Tensor{}
	for _, n := range f.Names() {
		tensor, err := f.Read(n)
		if err != nil {
			t.Fatal(err)
		}
		tensors[n] = tensor
	}
	return config, tensors
}

func writeModel(t *testing.T, config map[string]any, tensors map[string]safetensors.Tensor) string {
	t.Helper()
	dir := t.TempDir()
	writeConfig(t, dir, config)
	writeWeights(t, filepath.Join(dir, weightsFile), tensors)
	return dir
}

func writeConfig(t *testing.T, dir string, config map[string]any) {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config.json"), text)
}

func writeWeights(t *testing.T, path string, tensors map[string]safetensors.Tensor) {
	t.Helper()
	var list []safetensors.Tensor
	for name, tensor := range tensors {
		tensor.Name = name
		list = append(list, tensor)
	}
	if err := safetensors.Write(path, list, nil); err != nil {
		t.Fatal(err)
	}
}

// TestVariants: names without prefix, ignorable buffers, a copy of the tied head, half precision, shards.
func TestVariants(t *testing.T) {
	for name, prefix := range map[string]string{"gpt2": "transformer.", "qwen2": "model."} {
		want := mustLoad(t, golden(name), LoadOptions{})
		config, tensors := checkpoint(t, name)
		bare := map[string]safetensors.Tensor{}
		for n, tensor := range tensors {
			bare[strings.TrimPrefix(n, prefix)] = tensor
		}
		bare["lm_head.weight"] = tensors[prefix+map[string]string{"gpt2": "wte", "qwen2": "embed_tokens"}[name]+".weight"]
		if name == "gpt2" {
			bare["h.0.attn.bias"], bare["h.1.attn.masked_bias"] = u8(16), u8(1)
		} else {
			bare["layers.0.self_attn.rotary_emb.inv_freq"] = u8(4)
		}
		equalWeights(t, mustLoad(t, writeModel(t, config, bare), LoadOptions{}), want)
	}
}

func u8(n int) safetensors.Tensor {
	return safetensors.Tensor{DType: "U8", Shape: []int{n}, Data: make([]byte, n)}
}

// TestHalf loads BF16 and F16 copies: the loaded values are the rounded ones, exactly.
func TestHalf(t *testing.T) {
	config, tensors := checkpoint(t, "llama")
	want := mustLoad(t, golden("llama"), LoadOptions{})
	for n, tensor := range tensors {
		half := make([]byte, len(tensor.Data)/2)
		for i := range len(half) / 2 {
			copy(half[2*i:2*i+2], tensor.Data[4*i+2:4*i+4]) // truncation to bfloat16
		}
		tensors[n] = safetensors.Tensor{DType: "BF16", Shape: tensor.Shape, Data: half}
	}
	got := mustLoad(t, writeModel(t, config, tensors), LoadOptions{})
	for _, p := range want.Decoder.Parameters() {
		a, b := values(t, got, p.Name), values(t, want, p.Name)
		for i := range b {
			if math.Float32bits(a[i]) != math.Float32bits(b[i])&0xffff0000 {
				t.Fatalf("%s[%d] is %g, want %g truncated", p.Name, i, a[i], b[i])
			}
		}
	}
	if got.Fingerprint == want.Fingerprint {
		t.Error("the fingerprint did not see other weights")
	}
}

// sharded writes a golden in two shards and returns its folder.
func sharded(t *testing.T, name string) string {
	t.Helper()
	config, tensors := checkpoint(t, name)
	dir, names := t.TempDir(), slices.Sorted(maps.Keys(tensors))
	writeConfig(t, dir, config)
	index, parts := map[string]string{}, []map[string]safetensors.Tensor{{}, {}}
	files := []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
	for i, n := range names {
		parts[i%2][n], index[n] = tensors[n], files[i%2]
	}
	for i, file := range files {
		writeWeights(t, filepath.Join(dir, file), parts[i])
	}
	text, _ := json.Marshal(map[string]any{"metadata": map[string]any{}, "weight_map": index})
	write(t, filepath.Join(dir, indexFile), text)
	return dir
}

func TestSharded(t *testing.T) {
	dir := sharded(t, "qwen3")
	equalWeights(t, mustLoad(t, dir, LoadOptions{}), mustLoad(t, golden("qwen3"), LoadOptions{}))
	if err := os.Remove(filepath.Join(dir, "model-00002-of-00002.safetensors")); err != nil {
		t.Fatal(err)
	}
	_, err := Load(context.Background(), dir, LoadOptions{})
	oneLineError(t, err, "lists 1 shards that are missing: model-00002-of-00002.safetensors", dir)
	write(t, filepath.Join(dir, indexFile), []byte(`{"weight_map":{"a":"../../etc/passwd"}}`))
	_, err = Load(context.Background(), dir, LoadOptions{})
	oneLineError(t, err, "leaves the folder", dir)
	write(t, filepath.Join(dir, indexFile), []byte(`{"weight_map":{"a":"model-00001-of-00002.safetensors"}}`))
	_, err = Load(context.Background(), dir, LoadOptions{})
	oneLineError(t, err, "do not hold: a (in model-00001", dir)
}

// TestMismatches holds that all bad tensors come in one error.
func TestMismatches(t *testing.T) {
	config, tensors := checkpoint(t, "llama")
	delete(tensors, "model.norm.weight")
	tensors["model.layers.0.mlp.up_proj.weight"] = safetensors.FromFloat32("", []int{2, 2}, make([]float32, 4))
	tensors["model.layers.0.mlp.extra.weight"] = tensors["model.layers.0.mlp.up_proj.weight"]
	dir := writeModel(t, config, tensors)
	_, err := Load(context.Background(), dir, LoadOptions{})
	for _, want := range []string{"1 missing: model.norm.weight", "up_proj.weight is [2 2], want [48 32]", "1 unexpected: model.layers.0.mlp.extra.weight"} {
		oneLineError(t, err, want, dir)
	}
}

// TestBadFolders: each gets one line.
func TestBadFolders(t *testing.T) {
	good := golden("llama")
	with := func(change func(config map[string]any, tensors map[string]safetensors.Tensor)) string {
		config, tensors := checkpoint(t, "llama")
		change(config, tensors)
		return writeModel(t, config, tensors)
	}
	raw := func(name string, content []byte) string {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "config.json"), read(t, filepath.Join(good, "config.json")))
		if content != nil {
			write(t, filepath.Join(dir, name), content)
		}
		return dir
	}
	weights := read(t, filepath.Join(good, weightsFile))
	empty := t.TempDir()
	nan := func(x float32) string {
		return with(func(_ map[string]any, tensors map[string]safetensors.Tensor) {
			values := make([]float32, 32)
			values[5] = x
			tensors["model.norm.weight"] = safetensors.FromFloat32("", []int{32}, values)
		})
	}
	cases := []struct{ name, path, want string }{
		{"no such path", "/no/such/model", "no such file or folder"},
		{"empty name", "", "no model given"},
		{"empty folder", empty, "no config.json"},
		{"no weights", raw("x", nil), "has no model.safetensors"},
		{"pickled weights", raw("pytorch_model.bin", []byte("x")), "convert it to safetensors"},
		{"truncated weights", raw(weightsFile, weights[:len(weights)-100]), "truncated"},
		{"truncated header", raw(weightsFile, weights[:100]), "header claims"},
		{"header too long", raw(weightsFile, append([]byte{255, 255, 255, 255, 255, 255, 255, 127}, weights[8:]...)), "header claims"},
		{"config is not JSON", raw("config.json", []byte("{")), "not valid JSON"},
		{"a tensor file", filepath.Join(good, weightsFile), "give its folder"},
		{"not a number", nan(float32(math.NaN())), "model.norm.weight holds NaN or infinity (first at element 5)"},
		{"infinite", nan(float32(math.Inf(-1))), "model.norm.weight holds NaN or infinity"},
		{"unknown architecture", with(func(c map[string]any, _ map[string]safetensors.Tensor) { c["model_type"] = "mamba" }), `model_type "mamba" is not supported (supported: gpt2, llama`},
		{"integer weights", with(func(_ map[string]any, tensors map[string]safetensors.Tensor) {
			tensors["model.norm.weight"] = u8(32)
		}), "not floating point"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(context.Background(), c.path, LoadOptions{Offline: true})
			oneLineError(t, err, c.want, c.path)
		})
	}
	_, err := Load(context.Background(), good, LoadOptions{NeedTokenizer: true})
	oneLineError(t, err, "tokenizer missing", good)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Load(ctx, good, LoadOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled load gave %v", err)
	}
}

// TestSaveExtras: tokenizer, template and generation_config travel; a folder with other files is left alone.
func TestSaveExtras(t *testing.T) {
	loaded := mustLoad(t, golden("llama"), LoadOptions{})
	chars, err := tokenizer.NewChar([]rune("abc\n"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	extra := SaveOptions{Tokenizer: chars, ChatTemplate: "{{ messages }}", GenerationConfig: json.RawMessage(`{"eos_token_id":2}`), Config: loaded.Config}
	for range 2 { // the second replaces the first
		if err := Save(dir, loaded.Decoder, loaded.Store, extra); err != nil {
			t.Fatal(err)
		}
	}
	back := mustLoad(t, dir, LoadOptions{NeedTokenizer: true})
	if back.ChatTemplate != extra.ChatTemplate || string(back.GenerationConfig) != string(extra.GenerationConfig) || back.Tokenizer.Fingerprint() != chars.Fingerprint() {
		t.Errorf("came back as %q, %s, %v", back.ChatTemplate, back.GenerationConfig, back.Tokenizer.Fingerprint())
	}
	if !strings.Contains(string(back.Config), `"bos_token_id": 1`) {
		t.Errorf("the token ids of the source are lost: %s", back.Config)
	}
	write(t, filepath.Join(dir, "thesis.txt"), []byte("x"))
	err = Save(dir, loaded.Decoder, loaded.Store, extra)
	oneLineError(t, err, "holds thesis.txt, which is not part of a model", dir)
	many, err := tokenizer.NewChar([]rune("x" + manyRunes(70)))
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := Save(other, loaded.Decoder, loaded.Store, SaveOptions{Tokenizer: many}); err != nil {
		t.Fatal(err)
	}
	_, err = Load(context.Background(), other, LoadOptions{})
	oneLineError(t, err, "do not belong together", other)
}

func manyRunes(n int) string {
	var s strings.Builder
	for i := range n {
		s.WriteRune(rune(0x4e00 + i))
	}
	return s.String()
}

// TestSaveRefusesNaN: nothing half-written is left behind.
func TestSaveRefusesNaN(t *testing.T) {
	loaded := mustLoad(t, golden("llama"), LoadOptions{})
	v := loaded.Store.GetVariable("/model/norm/weight")
	if err := v.SetValue(tensors.FromScalarAndDimensions(float32(math.NaN()), 32)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	err := Save(filepath.Join(dir, "out"), loaded.Decoder, loaded.Store, loaded.Extra())
	oneLineError(t, err, "model.norm.weight holds NaN", "out")
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left %v behind", left)
	}
}
