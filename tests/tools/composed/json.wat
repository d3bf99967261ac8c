;; Gives back a `type json = string`. A type alias needs a component of its own to be exported from.
(component
  (core module $module
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32) (i32.const 1024))
    (func (export "same") (param $at i32) (param $length i32) (result i32)
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (local.get $length))
      (i32.const 0)))
  (core instance $core (instantiate $module))
  (type $string string)
  (func $same (param "value" $string) (result $string)
    (canon lift (core func $core "same") (memory (core memory $core "memory")) (realloc (core func $core "realloc"))))
  (component $named
    (type $string string)
    (import "import-json" (type $json (eq $string)))
    (import "import-same" (func $same (param "value" $json) (result $json)))
    (export $exported "json" (type $json))
    (export "same" (func $same) (func (param "value" $exported) (result $exported))))
  (instance $values (instantiate $named (with "import-json" (type $string)) (with "import-same" (func $same))))
  (export "test:json/values" (instance $values)))
