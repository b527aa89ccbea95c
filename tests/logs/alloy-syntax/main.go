// alloy-syntax reads a configuration in Alloy's language from standard input by Alloy's own parser and writes what it
// says as JSON: a list of blocks with name, label, attributes (literals as values, all else as {"ref": text}) and blocks.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/grafana/alloy/syntax/ast"
	"github.com/grafana/alloy/syntax/parser"
	"github.com/grafana/alloy/syntax/printer"
	"github.com/grafana/alloy/syntax/token"
)

type block struct {
	Name       string         `json:"name"`
	Label      string         `json:"label"`
	Attributes map[string]any `json:"attributes"`
	Blocks     []block        `json:"blocks"`
}

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err == nil {
		var file *ast.File
		if file, err = parser.ParseFile("config.alloy", text); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(blocks(file.Body))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func blocks(body ast.Body) []block {
	found := []block{}
	for _, statement := range body {
		if one, ok := statement.(*ast.BlockStmt); ok {
			found = append(found, block{strings.Join(one.Name, "."), one.Label, attributes(one.Body), blocks(one.Body)})
		}
	}
	return found
}

func attributes(body ast.Body) map[string]any {
	found := map[string]any{}
	for _, statement := range body {
		if one, ok := statement.(*ast.AttributeStmt); ok {
			found[one.Name.Name] = value(one.Value)
		}
	}
	return found
}

func value(expression ast.Expr) any {
	switch one := expression.(type) {
	case *ast.LiteralExpr:
		return literal(one)
	case *ast.ArrayExpr:
		found := []any{}
		for _, element := range one.Elements {
			found = append(found, value(element))
		}
		return found
	case *ast.ObjectExpr:
		found := map[string]any{}
		for _, field := range one.Fields {
			found[field.Name.Name] = value(field.Value)
		}
		return found
	}
	var text strings.Builder
	_ = printer.Fprint(&text, expression)
	return map[string]any{"ref": text.String()}
}

func literal(one *ast.LiteralExpr) any {
	switch one.Kind {
	case token.STRING:
		if text, err := strconv.Unquote(one.Value); err == nil {
			return text
		}
	case token.NUMBER, token.FLOAT:
		return json.Number(one.Value)
	case token.BOOL:
		return one.Value == "true"
	case token.NULL:
		return nil
	}
	return map[string]any{"bad": one.Value}
}
