package tokenizer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Token types of GGUF's tokenizer.ggml.token_type.
const (
	ggufUnknown = 2
	ggufControl = 3
	ggufUser    = 4
)

// ggufPre is what a value of tokenizer.ggml.pre stands for: split patterns applied one after the other, a normalizer, ignore_merges.
type ggufPre struct {
	split        []string
	nfc          bool
	ignoreMerges bool
}

// ggufPres maps tokenizer.ggml.pre to the published tokenizers (llama.cpp's llama-vocab.cpp gives the patterns; the Hugging Face
// files of the same models give NFC, which llama.cpp leaves out). ByteLevel's own pattern is gpt2Regex.
var ggufPres = map[string]ggufPre{
	"gpt-2":   {split: []string{gpt2Regex}},
	"gpt2":    {split: []string{gpt2Regex}},
	"smollm":  {split: []string{`\p{N}`, gpt2Regex}},
	"qwen2":   {split: []string{qwenRegex}, nfc: true},
	"default": {split: []string{`[\p{P}\$\+<=>\^~\|]+`, gpt2DefaultRegex, `\p{N}+`, `[0-9][0-9][0-9]`}},

	"llama-bpe": {split: []string{llamaRegex}, ignoreMerges: true},
	"llama3":    {split: []string{llamaRegex}, ignoreMerges: true},
	"llama-v3":  {split: []string{llamaRegex}, ignoreMerges: true},
}

// gpt2DefaultRegex is the second pattern of llama.cpp's "default": gpt2Regex without its last alternative, which changes nothing.
const gpt2DefaultRegex = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)`

// ggufMeta reads a GGUF file's metadata.
type ggufMeta struct {
	get func(key string) (any, bool)
}

// FromGGUF returns the tokenizer in a GGUF file's metadata, given a lookup of one key (for go-huggingface's gguf.File:
// the KeyValue's Raw()). Its Files are a tokenizer.json and a tokenizer_config.json, with the chat template where there is one, that
// Hugging Face's libraries load too. Models "gpt2" (byte-level BPE) and "llama" (SentencePiece BPE with scores) are known.
func FromGGUF(get func(key string) (value any, ok bool)) (t Tokenizer, err error) {
	defer recovered("GGUF tokenizer", &err)
	m := ggufMeta{get}
	files, err := m.files()
	if err != nil {
		return nil, fmt.Errorf("GGUF tokenizer: %s", oneLine(err.Error()))
	}
	h, err := newHuggingFace(files)
	if err != nil {
		return nil, fmt.Errorf("GGUF tokenizer: %s", oneLine(err.Error()))
	}
	return h, nil
}

func (m ggufMeta) files() (map[string][]byte, error) {
	tokens, err := m.strings("tokens")
	if err != nil {
		return nil, err
	}
	if len(tokens) == 0 {
		return nil, errors.New("tokenizer.ggml.tokens is missing or empty; the file holds no tokenizer")
	}
	def := map[string]any{"version": "1.0", "truncation": nil, "padding": nil, "normalizer": nil, "post_processor": nil}
	switch model, _ := m.get("tokenizer.ggml.model"); model {
	case "gpt2":
		err = m.byteLevel(def, tokens)
	case "llama":
		err = m.sentencePiece(def, tokens)
	default:
		err = fmt.Errorf("tokenizer.ggml.model is %v; known: gpt2, llama", model)
	}
	if err != nil {
		return nil, err
	}
	if def["added_tokens"], err = m.added(tokens); err != nil {
		return nil, err
	}
	conf, err := m.config(def, tokens)
	if err != nil {
		return nil, err
	}
	return encodeFiles(map[string]any{tokenizerJSON: def, tokenizerConf: conf})
}

func encodeFiles(values map[string]any) (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, value := range values {
		content, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		files[name] = append(content, '\n')
	}
	return files, nil
}

// vocabulary is {"token": id}; repeated spellings are an error because an id could never be produced.
func vocabulary(tokens []string) (map[string]int, error) {
	vocab := make(map[string]int, len(tokens))
	for id, token := range tokens {
		if first, again := vocab[token]; again {
			return nil, fmt.Errorf("tokenizer.ggml.tokens: %q is both token %d and token %d", token, first, id)
		}
		vocab[token] = id
	}
	return vocab, nil
}

// byteLevel fills def for a GPT-2 style vocabulary.
func (m ggufMeta) byteLevel(def map[string]any, tokens []string) error {
	name := "default"
	if v, ok := m.get("tokenizer.ggml.pre"); ok {
		name = fmt.Sprint(v)
	}
	pre, ok := ggufPres[name]
	if !ok {
		var known []string
		for k := range ggufPres {
			known = append(known, k)
		}
		slices.Sort(known)
		return fmt.Errorf("tokenizer.ggml.pre %q is not supported; known: %s. Use the model's Hugging Face folder instead", name, strings.Join(known, ", "))
	}
	vocab, err := vocabulary(tokens)
	if err != nil {
		return err
	}
	merges, err := m.strings("merges")
	if err != nil {
		return err
	}
	if len(merges) == 0 {
		return errors.New("tokenizer.ggml.merges is missing or empty")
	}
	steps := []any{}
	for _, expr := range pre.split {
		steps = append(steps, map[string]any{"type": "Split", "pattern": map[string]string{"Regex": expr}, "behavior": "Isolated", "invert": false})
	}
	level := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
	def["pre_tokenizer"] = map[string]any{"type": "Sequence", "pretokenizers": append(steps, level)}
	def["decoder"] = level
	if pre.nfc {
		def["normalizer"] = map[string]any{"type": "NFC"}
	}
	def["model"] = map[string]any{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
		"fuse_unk": false, "byte_fallback": false, "ignore_merges": pre.ignoreMerges, "vocab": vocab, "merges": merges}
	return nil
}

// sentencePiece fills def for a SentencePiece BPE. Its scores order the merges: any two pieces whose concatenation is a piece merge,
// the best-scored result first, which is also how the transformers converter reads a SentencePiece model.
func (m ggufMeta) sentencePiece(def map[string]any, tokens []string) error {
	scores, err := m.floats("scores")
	if err != nil {
		return err
	}
	if len(scores) != len(tokens) {
		return fmt.Errorf("tokenizer.ggml.scores has %d entries for %d tokens", len(scores), len(tokens))
	}
	vocab, err := vocabulary(tokens)
	if err != nil {
		return err
	}
	unk, ok := m.integer("unknown_token_id")
	if !ok {
		unk = 0
	}
	if unk < 0 || unk >= len(tokens) {
		return fmt.Errorf("tokenizer.ggml.unknown_token_id is %d, but there are %d tokens", unk, len(tokens))
	}
	replace := map[string]any{"type": "Replace", "pattern": map[string]string{"String": " "}, "content": "▁"}
	before, after := []any{replace}, []any{
		map[string]any{"type": "Replace", "pattern": map[string]string{"String": "▁"}, "content": " "},
		map[string]any{"type": "ByteFallback"}, map[string]any{"type": "Fuse"}}
	if m.boolean("add_space_prefix", true) {
		before = []any{map[string]any{"type": "Prepend", "prepend": "▁"}, replace}
		after = append(after, map[string]any{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	def["normalizer"] = map[string]any{"type": "Sequence", "normalizers": before}
	def["pre_tokenizer"] = nil
	def["decoder"] = map[string]any{"type": "Sequence", "decoders": after}
	def["model"] = map[string]any{"type": "BPE", "dropout": nil, "unk_token": tokens[unk], "continuing_subword_prefix": nil,
		"end_of_word_suffix": nil, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
		"vocab": vocab, "merges": scoredMerges(tokens, scores, vocab)}
	return nil
}

func scoredMerges(tokens []string, scores []float64, vocab map[string]int) [][2]string {
	type scored struct {
		pair        [2]string
		id          int
		left, right int
	}
	var all []scored
	for id, token := range tokens {
		for i := range token {
			left, okLeft := vocab[token[:i]]
			right, okRight := vocab[token[i:]]
			if i > 0 && okLeft && okRight {
				all = append(all, scored{[2]string{token[:i], token[i:]}, id, left, right})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(scores[b.id], scores[a.id]), cmp.Compare(a.id, b.id), cmp.Compare(a.left, b.left), cmp.Compare(a.right, b.right))
	})
	pairs := make([][2]string, len(all))
	for i, s := range all {
		pairs[i] = s.pair
	}
	return pairs
}

// added returns control, unknown and user-defined tokens; without token types, those that bos, eos, ... name.
func (m ggufMeta) added(tokens []string) ([]addedToken, error) {
	kinds, err := m.floats("token_type")
	if err != nil {
		return nil, err
	}
	if kinds != nil && len(kinds) != len(tokens) {
		return nil, fmt.Errorf("tokenizer.ggml.token_type has %d entries for %d tokens", len(kinds), len(tokens))
	}
	special := map[int]bool{}
	for _, key := range []string{"bos_token_id", "eos_token_id", "padding_token_id"} {
		if id, ok := m.integer(key); ok {
			special[id] = true
		}
	}
	added := []addedToken{}
	for id, token := range tokens {
		kind := 0
		if kinds != nil {
			kind = int(kinds[id])
		}
		switch {
		case token == "":
		case kind == ggufControl || kind == ggufUnknown || (kinds == nil && special[id]):
			added = append(added, addedToken{ID: id, Content: token, Special: true})
		case kind == ggufUser:
			added = append(added, addedToken{ID: id, Content: token})
		}
	}
	return added, nil
}

// config returns tokenizer_config.json and puts the beginning and end that the metadata ask for into def's post-processor.
func (m ggufMeta) config(def map[string]any, tokens []string) (map[string]any, error) {
	conf := map[string]any{"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false}
	for key, name := range map[string]string{"bos_token_id": "bos_token", "eos_token_id": "eos_token", "padding_token_id": "pad_token", "unknown_token_id": "unk_token"} {
		id, ok := m.integer(key)
		if !ok {
			continue
		}
		if id < 0 || id >= len(tokens) {
			return nil, fmt.Errorf("tokenizer.ggml.%s is %d, but there are %d tokens", key, id, len(tokens))
		}
		conf[name] = tokens[id]
	}
	if src, ok := m.get("tokenizer.chat_template"); ok {
		text, isText := src.(string)
		if !isText {
			return nil, fmt.Errorf("tokenizer.chat_template is %T, want a string", src)
		}
		conf["chat_template"] = text
	}
	model, _ := m.get("tokenizer.ggml.model")
	single := []any{map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}}
	specials := map[string]any{}
	mark := func(name, key string) map[string]any {
		id, _ := m.integer(key)
		text, _ := conf[name].(string)
		specials[text] = map[string]any{"id": text, "ids": []int{id}, "tokens": []string{text}}
		return map[string]any{"SpecialToken": map[string]any{"id": text, "type_id": 0}}
	}
	if conf["bos_token"] != nil && m.boolean("add_bos_token", model == "llama") {
		single = append([]any{mark("bos_token", "bos_token_id")}, single...)
	}
	if conf["eos_token"] != nil && m.boolean("add_eos_token", false) {
		single = append(single, mark("eos_token", "eos_token_id"))
	}
	if len(specials) > 0 {
		pair := append(slices.Clone(single), map[string]any{"Sequence": map[string]any{"id": "B", "type_id": 1}})
		def["post_processor"] = map[string]any{"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": specials}
	}
	return conf, nil
}

// strings reads a list under tokenizer.ggml, nil where it is missing.
func (m ggufMeta) strings(key string) ([]string, error) {
	v, ok := m.get("tokenizer.ggml." + key)
	if !ok {
		return nil, nil
	}
	if list, isList := v.([]string); isList {
		return list, nil
	}
	return nil, fmt.Errorf("tokenizer.ggml.%s is %T, want a list of strings", key, v)
}

// floats reads a list of any numbers under tokenizer.ggml, nil where it is missing.
func (m ggufMeta) floats(key string) ([]float64, error) {
	v, ok := m.get("tokenizer.ggml." + key)
	if !ok {
		return nil, nil
	}
	list := reflect.ValueOf(v)
	if list.Kind() != reflect.Slice {
		return nil, fmt.Errorf("tokenizer.ggml.%s is %T, want a list of numbers", key, v)
	}
	out := make([]float64, list.Len())
	for i := range out {
		switch e := list.Index(i); {
		case e.CanInt():
			out[i] = float64(e.Int())
		case e.CanUint():
			out[i] = float64(e.Uint())
		case e.CanFloat():
			out[i] = e.Float()
		default:
			return nil, fmt.Errorf("tokenizer.ggml.%s is %T, want a list of numbers", key, v)
		}
	}
	return out, nil
}

// integer reads one number under tokenizer.ggml; ids beyond any vocabulary count as missing only where the writer marks "none" by -1.
func (m ggufMeta) integer(key string) (int, bool) {
	v, ok := m.get("tokenizer.ggml." + key)
	if !ok {
		return 0, false
	}
	switch n := reflect.ValueOf(v); {
	case n.CanInt():
		return int(n.Int()), n.Int() != -1
	case n.CanUint():
		return int(n.Uint()), n.Uint() != 1<<32-1
	}
	return 0, false
}

func (m ggufMeta) boolean(key string, missing bool) bool {
	if v, ok := m.get("tokenizer.ggml." + key); ok {
		if b, isBool := v.(bool); isBool {
			return b
		}
	}
	return missing
}
