-- New customers.
--
-- Question  Who ordered for the first time in the last 30 days, and what did they begin with?
-- Reads     orders, order_lines, products, customers
-- Result    the 50 latest newcomers. first_product is what they spent most on in their first order: the natural thing to
--           speak about in a welcome. orders above 1 have come back already.
--
-- The 30 days end with the latest order in the data, not today.

WITH newcomers AS (
    SELECT customer_id, min(order_ts) AS first_ts, count(*) AS orders, sum(amount) AS spent
    FROM orders
    GROUP BY customer_id
    HAVING min(order_ts) > (SELECT max(order_ts) FROM orders) - INTERVAL '30 days'
),
first_lines AS (
    SELECT n.customer_id, l.product_id, sum(l.quantity * l.unit_price) AS amount,
           row_number() OVER (PARTITION BY n.customer_id ORDER BY sum(l.quantity * l.unit_price) DESC, l.product_id) AS place
    FROM newcomers n
    JOIN orders o ON o.customer_id = n.customer_id AND o.order_ts = n.first_ts
    JOIN order_lines l ON l.order_id = o.order_id
    GROUP BY n.customer_id, l.product_id
)
SELECT
    n.customer_id,
    c.country,
    CAST(n.first_ts AS date)    AS first_order,
    n.orders,
    n.spent,
    p.name                      AS first_product
FROM newcomers n
JOIN customers c ON c.customer_id = n.customer_id
JOIN first_lines f ON f.customer_id = n.customer_id AND f.place = 1
JOIN products p ON p.product_id = f.product_id
ORDER BY n.first_ts DESC, n.customer_id
LIMIT 50;
