package cli

import (
	"encoding"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// mapping is a setting of several keys: one text on the command line, and in a configuration file that text or keys below its own.
type mapping interface {
	fmt.Stringer
	encoding.TextUnmarshaler // of what String returns
	SetKey(key, text string) error
}

// pairs is what a mapping prints as, key by key.
type pairs interface{ Settings() [][2]string }

// nestedError is an error on another line than that of the setting's key.
type nestedError struct {
	line  int
	cause error
}

func (e *nestedError) Error() string { return e.cause.Error() }
func (e *nestedError) Unwrap() error { return e.cause }

// mappingValue reads a node into target and returns the text that the flag's mapper takes.
func mappingValue(target mapping, node ast.Node) (any, error) {
	var pairs []*ast.MappingValueNode
	switch node := node.(type) {
	case *ast.MappingNode:
		pairs = node.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{node}
	default:
		text, err := scalar(node)
		if err != nil {
			return nil, fmt.Errorf("want 'key: value' lines or one text, %w", err)
		}
		if err := target.UnmarshalText([]byte(text)); err != nil {
			return nil, err
		}
		return text, nil
	}
	for _, pair := range pairs {
		key := pair.Key.GetToken()
		text, err := itemsOf(pair.Value)
		if err == nil {
			err = target.SetKey(strings.ReplaceAll(key.Value, "-", "_"), text)
		} else {
			err = fmt.Errorf("%s: %w", key.Value, err)
		}
		if err != nil {
			return nil, &nestedError{line: key.Position.Line, cause: err}
		}
	}
	text := target.String()
	return text, target.UnmarshalText([]byte(text))
}

// itemsOf returns the text of a plain value, or of a list of them with commas between.
func itemsOf(node ast.Node) (string, error) {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		return scalar(node)
	}
	var items []string
	for _, item := range list.Values {
		text, err := scalar(item)
		if err != nil {
			return "", err
		}
		items = append(items, text)
	}
	return strings.Join(items, ","), nil
}

// yamlMapping writes a mapping as YAML on one line.
func yamlMapping(p pairs) string {
	var items []string
	for _, setting := range p.Settings() {
		text := setting[1]
		if _, err := parseFloat(text); err != nil {
			text = yamlString(text)
		}
		items = append(items, setting[0]+": "+text)
	}
	return "{" + strings.Join(items, ", ") + "}"
}
