package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The files FromFolder looks for.
const (
	tokenizerJSON = "tokenizer.json"
	tokenizerConf = "tokenizer_config.json"
	specialMap    = "special_tokens_map.json"
	modelConf     = "config.json"
	generateConf  = "generation_config.json"
	templateFile  = "chat_template.jinja"
)

// maxFileBytes bounds what is read into memory from one tokenizer file; the largest published tokenizer.json is about 40 MB.
const maxFileBytes = 512 << 20

// FromFolder returns the tokenizer saved in dir: a character vocabulary (CharFile) or tokenizer.json with the special tokens of
// tokenizer_config.json, special_tokens_map.json, config.json and generation_config.json where present.
func FromFolder(dir string) (Tokenizer, error) {
	files, err := readFolder(dir)
	if err != nil {
		return nil, err
	}
	t, err := FromFiles(files)
	if err != nil {
		return nil, fmt.Errorf("tokenizer in %s: %w", dir, err)
	}
	return t, nil
}

// FromFiles returns the tokenizer described by files (file name -> content), named as in FromFolder. Malformed content is one error
// naming the file and the part.
func FromFiles(files map[string][]byte) (t Tokenizer, err error) {
	defer recovered("tokenizer", &err)
	if content, ok := files[CharFile]; ok {
		return charFromJSON(content)
	}
	if _, ok := files[tokenizerJSON]; ok {
		h, err := newHuggingFace(files)
		if err != nil {
			return nil, errors.New(oneLine(err.Error()))
		}
		return h, nil
	}
	return nil, fmt.Errorf("found neither %s nor %s; copy the model's tokenizer files into the folder", tokenizerJSON, CharFile)
}

// recovered turns a panic into an error, for the edges where content from outside meets other people's parsers.
func recovered(what string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s: internal error: %s", what, oneLine(fmt.Sprint(p)))
	}
}

// TemplateFromFolder returns the source of the chat template saved in dir ("" where there is none): chat_template.jinja, or
// "chat_template" in tokenizer_config.json (a string, or the entry named "default" of a list).
func TemplateFromFolder(dir string) (string, error) {
	files, err := readFolder(dir)
	if err != nil {
		return "", err
	}
	src, err := TemplateFromFiles(files)
	if err != nil {
		return "", fmt.Errorf("chat template in %s: %w", dir, err)
	}
	return src, nil
}

func readFolder(dir string) (map[string][]byte, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("tokenizer folder: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("tokenizer folder: %s is not a folder", dir)
	}
	files := map[string][]byte{}
	for _, name := range []string{CharFile, tokenizerJSON, tokenizerConf, specialMap, modelConf, generateConf, templateFile} {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("tokenizer: %w", err)
		}
		if info.Size() > maxFileBytes {
			return nil, fmt.Errorf("tokenizer: %s has %d bytes, more than the limit of %d", path, info.Size(), maxFileBytes)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("tokenizer: %w", err)
		}
		files[name] = content
	}
	return files, nil
}

// fingerprint returns the first 16 hexadecimal digits of the SHA-256 of the parts, each preceded by its length.
func fingerprint(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:", len(p))
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// oneLine makes an error's text one line.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
