-- Revenue from new and returning customers.
--
-- Question  Does the shop live on winning customers or on keeping them?
-- Reads     orders
-- Result    one row a month. new_revenue is what customers spent in the month of their first order, returning_revenue
--           what all others spent; the two add up to revenue. percent_returning rising over time is a shop that keeps
--           its customers. In the first months of the data everybody looks new; the last month may not be over
--           (days says how many days of it have orders).

WITH firsts AS (
    SELECT customer_id, date_trunc('month', min(order_ts)) AS first_month FROM orders GROUP BY customer_id
)
SELECT
    CAST(date_trunc('month', o.order_ts) AS date)                                                       AS month,
    count(DISTINCT CAST(o.order_ts AS date))                                                            AS days,
    count(DISTINCT o.customer_id)                                                                       AS customers,
    count(DISTINCT CASE WHEN f.first_month = date_trunc('month', o.order_ts) THEN o.customer_id END)    AS new_customers,
    sum(o.amount)                                                                                       AS revenue,
    sum(CASE WHEN f.first_month = date_trunc('month', o.order_ts) THEN o.amount ELSE 0 END)             AS new_revenue,
    sum(CASE WHEN f.first_month < date_trunc('month', o.order_ts) THEN o.amount ELSE 0 END)             AS returning_revenue,
    CAST(100 * sum(CASE WHEN f.first_month < date_trunc('month', o.order_ts) THEN o.amount ELSE 0 END) / sum(o.amount)
         AS numeric(5, 1))                                                                              AS percent_returning
FROM orders o
JOIN firsts f ON f.customer_id = o.customer_id
GROUP BY date_trunc('month', o.order_ts)
ORDER BY month;
