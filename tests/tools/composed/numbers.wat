;; Exports functions without an interface; their values take registers of all kinds.
(component
  (core module $module
    (func (export "half") (param f32) (result f32) (f32.div (local.get 0) (f32.const 2)))
    (func (export "mean") (param f64 f64) (result f64)
      (f64.div (f64.add (local.get 0) (local.get 1)) (f64.const 2)))
    ;; A case that carries a number of 32 bits as one of 64, or a float.
    (func (export "pick") (param i32 i64) (result i64)
      (i64.add (i64.mul (i64.extend_i32_u (local.get 0)) (i64.const 1000000)) (local.get 1))))
  (core instance $core (instantiate $module))
  (func $half (param "x" float32) (result float32) (canon lift (core func $core "half")))
  (func $mean (param "x" float64) (param "y" float64) (result float64) (canon lift (core func $core "mean")))
  (func $pick (param "x" (result s64 (error u8))) (result s64) (canon lift (core func $core "pick")))
  (export "half" (func $half))
  (export "mean" (func $mean))
  (export "pick" (func $pick)))
