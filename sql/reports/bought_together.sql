-- Bought together.
--
-- Question  Which pairs of products go into the same basket, more often than chance would put them there?
-- Reads     orders, order_lines, products
-- Result    the 30 pairs with the greatest lift among those in at least 20 orders of the last 180 days. support: orders with both.
--           confidence: of the orders with first_product, the percentage that also have second_product. lift: how
--           many times more often together than if the two were bought independently; 1 is chance.
--           Each pair is listed once, from the rarer product to the commoner.

WITH baskets AS (
    SELECT DISTINCT l.order_id, l.product_id
    FROM order_lines l
    JOIN orders o ON o.order_id = l.order_id
    WHERE o.order_ts > (SELECT max(order_ts) FROM orders) - INTERVAL '180 days'
),
-- A product in fewer than 20 orders cannot be in 20 pairs; leaving it out early keeps the join small.
counted AS (
    SELECT product_id, count(*) AS orders FROM baskets GROUP BY product_id HAVING count(*) >= 20
),
kept AS (
    SELECT b.order_id, b.product_id, c.orders FROM baskets b JOIN counted c ON c.product_id = b.product_id
),
pairs AS (
    SELECT a.product_id AS first_id, b.product_id AS second_id, a.orders AS first_orders, b.orders AS second_orders, count(*) AS support
    FROM kept a
    JOIN kept b ON b.order_id = a.order_id
     AND (a.orders < b.orders OR (a.orders = b.orders AND a.product_id < b.product_id))
    GROUP BY a.product_id, b.product_id, a.orders, b.orders
    HAVING count(*) >= 20
)
SELECT
    f.name                                                          AS first_product,
    s.name                                                          AS second_product,
    p.support,
    CAST(100.0 * p.support / p.first_orders AS numeric(5, 1))       AS confidence,
    CAST(1.0 * p.support / p.first_orders / p.second_orders * (SELECT count(DISTINCT order_id) FROM baskets) AS numeric(8, 1)) AS lift
FROM pairs p
JOIN products f ON f.product_id = p.first_id
JOIN products s ON s.product_id = p.second_id
ORDER BY lift DESC, p.support DESC, f.name, s.name
LIMIT 30;
